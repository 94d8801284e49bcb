#!/bin/sh
# Installs heygemd from this folder, without a network:  sudo ./install.sh   (again for an upgrade; --uninstall)
#
#   --no-self-test   do not make a film at the end
#   PYTHON=…         the Python to use, where python3 is not the version in the file "python"
#
# Configuration, journal, footage and films stay as they are, whether it is run again or uninstalled.
set -eu
cd "$(dirname "$0")"

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
  rm -f /etc/systemd/system/heygemd.service /etc/systemd/system/heygemd@.service
  rm -f /etc/sysusers.d/heygemd.conf /etc/tmpfiles.d/heygemd.conf /etc/modules-load.d/heygemd.conf
  rm -rf /opt/heygemd /var/cache/heygemd
  systemctl daemon-reload
  say "uninstalled; left as they are: /etc/heygemd, /var/lib/heygemd, /srv/heygem and the user heygemd"
  exit 0
fi

say "checking this bundle"
sha256sum --quiet --check SHA256SUMS || fail "the bundle is damaged; copy it again"
wanted=$(cat python)
python=${PYTHON:-python3}
found=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') || fail "there is no $python"
[ "$found" = "$wanted" ] || fail "this bundle is for Python $wanted and $python is $found; set PYTHON"
machine=$(cat machine)
[ "$(uname -m)" = "$machine" ] || fail "this bundle is for $machine"

say "the user heygemd and the folders of the first line"
install -D -m 0644 systemd/heygemd.sysusers /etc/sysusers.d/heygemd.conf
install -D -m 0644 systemd/heygemd.tmpfiles /etc/tmpfiles.d/heygemd.conf
systemd-sysusers /etc/sysusers.d/heygemd.conf
systemd-tmpfiles --create /etc/tmpfiles.d/heygemd.conf
if [ -e /proc/driver/nvidia/version ]; then
  install -D -m 0644 systemd/heygemd.modules-load /etc/modules-load.d/heygemd.conf
fi

say "the program, in /opt/heygemd"
# A running job ends or goes back into the queue; it is made by the new version.
systemctl stop heygemd.service 2>/dev/null || true
[ -x /opt/heygemd/bin/python ] || "$python" -m venv /opt/heygemd ||
  fail "no virtual environment could be made; Debian needs the package python3-venv"
pip() {
  /opt/heygemd/bin/python -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
    --no-index --find-links wheels --upgrade "$@"
}
pip heygemd
pip --force-reinstall --no-deps heygemd # also where the version is the same and the content is not

say "the configuration, in /etc/heygemd"
install -d -m 0755 /etc/heygemd
if [ ! -e /etc/heygemd/config.toml ]; then
  sed 's#^root = .*#root = "/srv/heygem"#' config.toml >/etc/heygemd/config.toml.new
  mv /etc/heygemd/config.toml.new /etc/heygemd/config.toml
fi
chown root:heygemd /etc/heygemd/config.toml
chmod 0640 /etc/heygemd/config.toml
/opt/heygemd/bin/heygemd check --config /etc/heygemd/config.toml >/dev/null

say "the service"
install -m 0644 systemd/heygemd.service systemd/heygemd@.service /etc/systemd/system/
systemctl daemon-reload
systemctl enable --quiet heygemd.service
systemctl restart heygemd.service

say "what works here"
/opt/heygemd/bin/heygemd doctor --config /etc/heygemd/config.toml || say "see above: something is missing"
if [ $self_test = yes ]; then
  folder=$(mktemp -d)
  chown heygemd "$folder"
  runuser -u heygemd -- env HOME="$folder" /opt/heygemd/bin/heygemd demo --out "$folder" ||
    fail "the self-test failed; doctor's words above say what is missing"
  say "the self-test's film and sheet lie in $folder"
fi
systemctl --no-pager --lines=0 status heygemd.service
