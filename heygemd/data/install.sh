#!/bin/sh
# Installs or upgrades heygemd from this folder, without a network:  sudo ./install.sh   (--uninstall removes it)
#
#   --no-self-test   do not make a test film at the end
#   PYTHON=…         the Python to use, if python3 is not the version in the file "python"
#
# An upgrade or uninstall keeps configuration, journal, models, footage and films.
set -eu
cd "$(dirname "$0")"
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
umask 022
# Ignore pip's settings of this machine and user: all packages are in this folder.
unset PYTHONPATH PYTHONHOME PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_FIND_LINKS PIP_CONSTRAINT PIP_TARGET
export PIP_CONFIG_FILE=/dev/null

say() { printf '== %s\n' "$*"; }
fail() { printf 'install.sh: %s\n' "$*" >&2; exit 1; }

[ "$(id -u)" = 0 ] || fail "run it as root: sudo ./install.sh"
self_test=yes uninstall=no
for word in "$@"; do
  case $word in
  --no-self-test) self_test=no ;;
  --uninstall) uninstall=yes ;;
  *) fail "unknown option $word" ;;
  esac
done

if [ $uninstall = yes ]; then
  systemctl disable --now heygemd.service || true
  systemctl disable --now heygemd-hook.socket || true
  systemctl stop 'heygemd@*.service' 'heygemd-hook@*.service' || true
  for unit in systemd/heygemd*.service systemd/heygemd*.socket; do rm -f "/etc/systemd/system/${unit#systemd/}"; done
  rm -f /etc/sysusers.d/heygemd.conf /etc/tmpfiles.d/heygemd.conf /etc/modules-load.d/heygemd.conf
  rm -f /usr/local/bin/heygemd
  rm -rf /opt/heygemd /opt/heygemd.d /var/cache/heygemd
  systemctl daemon-reload
  say "uninstalled; kept: /etc/heygemd, /var/lib/heygemd, /srv/heygem, /opt/heygemd-models, user heygemd"
  exit 0
fi

say "checking this bundle"
sha256sum --quiet --check SHA256SUMS || fail "the bundle is damaged; copy it again"
machine=$(cat machine)
[ "$(uname -m)" = "$machine" ] || fail "this bundle is for $machine, but this machine is $(uname -m)"

python=${PYTHON:-python3}
if [ -d debs ] && ! { command -v ffmpeg && "$python" -c 'import ensurepip'; } >/dev/null 2>&1; then
  say "installing the distribution's packages"
  here=$(. /etc/os-release && echo "$ID ${VERSION_ID:-}")
  [ "$here" = "$(cat distribution)" ] || fail "the bundle's packages are for $(cat distribution), but this is $here"
  lists=$(mktemp -d)
  ln -s "$PWD/debs" "$lists/debs"
  mkdir "$lists/lists"
  echo "deb [trusted=yes] copy:$lists/debs ./" >"$lists/sources.list"
  apt() {
    DEBIAN_FRONTEND=noninteractive apt-get --quiet --yes -o APT::Sandbox::User=root -o Dir::State::lists="$lists/lists" \
      -o Dir::Etc::sourcelist="$lists/sources.list" -o Dir::Etc::sourceparts=/dev/null "$@"
  }
  apt update
  apt --no-install-recommends install ffmpeg python3 python3-venv
  rm -rf "$lists"
fi
command -v ffmpeg >/dev/null || fail "ffmpeg is missing; install the distribution's package first (apt-get install ffmpeg)"

wanted=$(cat python)
found=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') || fail "$python is missing; install it, or set PYTHON"
[ "$found" = "$wanted" ] || fail "this bundle is for Python $wanted, but $python is $found; set PYTHON"

say "creating the user heygemd and the folders of the first line"
install -D -m 0644 systemd/heygemd.sysusers /etc/sysusers.d/heygemd.conf
install -D -m 0644 systemd/heygemd.tmpfiles /etc/tmpfiles.d/heygemd.conf
systemd-sysusers /etc/sysusers.d/heygemd.conf
systemd-tmpfiles --create /etc/tmpfiles.d/heygemd.conf
if [ -e /proc/driver/nvidia/version ]; then
  install -D -m 0644 systemd/heygemd.modules-load /etc/modules-load.d/heygemd.conf
fi

say "installing the program in /opt/heygemd"
# The new version is installed next to the running one; the service stops only during the switch.
home=/opt/heygemd.d/$(date +%Y%m%d-%H%M%S)-$$
mkdir -p /opt/heygemd.d
trap '[ "$(readlink /opt/heygemd)" = "$home" ] || rm -rf "$home"' EXIT
"$python" -m venv "$home" || fail "the virtual environment could not be created; on Debian install python3-venv"
"$home/bin/python" -I -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
  --no-index --find-links wheels heygemd

say "checking the configuration in /etc/heygemd"
config=/etc/heygemd/config.toml
install -d -m 0755 /etc/heygemd
if [ ! -e $config ]; then
  sed -e 's#^root = .*#root = "/srv/heygem"#' -e 's#^\#models_dir = .*#models_dir = "/opt/heygemd-models"#' \
    config.toml >$config.new
  mv $config.new $config
fi
chown root:heygemd $config
chmod 0640 $config
# If the new version refuses the existing configuration, the upgrade changes nothing.
checked=$("$home/bin/heygemd" check --json --config $config) ||
  fail "this version refuses $config; the installed version stays in place"
of_config() { printf %s "$checked" | "$home/bin/python" -Ic "import json, sys; print(json.load(sys.stdin)['config']$1)"; }
models=$(of_config "['daemon']['models_dir']")
[ "$models" != /opt/heygemd-models ] || install -d -m 0755 "$models"
if [ -d models ]; then
  install -d -m 0755 "$models"
  say "copying the models to $models"
  for model in models/*/; do
    name=$(basename "$model")
    rm -rf "$models/.new" && cp -R "$model" "$models/.new"
    chown -R root:root "$models/.new" && chmod -R u=rwX,go=rX "$models/.new"
    rm -rf "${models:?}/$name" && mv "$models/.new" "$models/$name"
  done
  "$home/bin/heygemd" models verify --config $config
fi

say "starting the service"
# A running job ends or returns to the queue; the new version renders it.
systemctl stop heygemd.service 2>/dev/null || true
before=$(readlink /opt/heygemd || true)
[ -L /opt/heygemd ] || rm -rf /opt/heygemd
ln -sfnT "$home" /opt/heygemd
mkdir -p /usr/local/bin
ln -sfn /opt/heygemd/bin/heygemd /usr/local/bin/heygemd
for unit in systemd/heygemd*.service systemd/heygemd*.socket; do install -m 0644 "$unit" /etc/systemd/system/; done
systemctl daemon-reload
systemctl enable --quiet --now heygemd-hook.socket
systemctl enable --quiet heygemd.service
systemctl restart heygemd.service || {
  journalctl --no-pager --quiet --unit heygemd --lines 20 || true
  [ -z "$before" ] || {
    ln -sfnT "$before" /opt/heygemd
    systemctl restart --no-block heygemd.service
    fail "this version did not start (the reason is above); the previous version was restored"
  }
  fail "the service did not start; the reason is above"
}
systemctl try-restart 'heygemd@*.service'
for old in /opt/heygemd.d/*; do [ "$old" = "$home" ] || rm -rf "$old"; done

say "checking this machine"
/opt/heygemd/bin/heygemd doctor --config $config || say "something is missing; see above"
if [ $self_test = yes ]; then
  say "self-test: the service makes a film"
  folder=$(mktemp -d)
  /opt/heygemd/bin/heygemd selftest --config $config --out "$folder" ||
    fail "the self-test failed; see the doctor's findings above"
fi
systemctl --no-pager --lines=0 status heygemd.service
say "installed: heygemd $(cat version); drop files into $(of_config "['lines'][0]['inbox']")"
