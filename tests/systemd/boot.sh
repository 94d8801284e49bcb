#!/bin/bash
# boot.sh DIR LEAF LOWER SIZE [SOURCE:TARGET ...]: a private systemd as process 1 of new namespaces, until it is killed.
#
# Its root is an overlay of LOWER, such as this machine's /, its upper layer SIZE of RAM below DIR: nothing is written
# on the machine.  Each SOURCE is bound to TARGET read only.  LEAF is the cgroup that holds everything; writing 1 to its cgroup.kill ends it.
set -eu
export DIR=$1 LEAF=$2 LOWER=$3 SIZE=$4
shift 4

inside() {
  trap - EXIT
  mount -t tmpfs -o mode=755,size=$SIZE tmpfs "$DIR"
  mkdir "$DIR/upper" "$DIR/work" "$DIR/root"
  local root=$DIR/root
  mount -t overlay -o "lowerdir=$LOWER,upperdir=$DIR/upper,workdir=$DIR/work" overlay "$root"
  mount -t proc proc "$root/proc"
  mount -t sysfs -o ro sysfs "$root/sys"
  mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
  mount -t tmpfs -o mode=755,nosuid,nodev tmpfs "$root/run"
  mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/tmp"
  mount -t tmpfs -o mode=755,nosuid tmpfs "$root/dev"
  local name
  for name in null zero full random urandom tty; do cp -a "/dev/$name" "$root/dev/"; done
  mknod -m 666 "$root/dev/fuse" c 10 229 # a device that a service has no business with
  mkdir "$root/dev/pts" "$root/dev/shm"
  mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
  mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/dev/shm"
  ln -s pts/ptmx "$root/dev/ptmx"
  ln -s /proc/self/fd "$root/dev/fd"
  ln -s /proc/self/fd/0 "$root/dev/stdin"
  ln -s /proc/self/fd/1 "$root/dev/stdout"
  ln -s /proc/self/fd/2 "$root/dev/stderr"
  touch "$root/dev/console"
  mount --bind /dev/null "$root/dev/console"

  echo 5e0d5e0d5e0d5e0d5e0d5e0d5e0d5e0d >"$root/etc/machine-id"
  rm -rf "$root/etc/systemd/system" # this machine's own services do not start
  mkdir -p "$root/etc/systemd/system" "$root/etc/systemd/journald.conf.d"
  printf '[Journal]\nStorage=volatile\nRateLimitBurst=0\nAudit=no\n' >"$root/etc/systemd/journald.conf.d/test.conf"
  printf '[Unit]\nRequires=%s %s\nAfter=%s\n' systemd-journald.service systemd-journald.socket systemd-journald.service \
    >"$root/etc/systemd/system/test.target"

  local source target
  for pair in "$@"; do
    source=${pair%%:*} target=$root${pair#*:}
    if [ -d "$source" ]; then
      mkdir -p "$target"
    else
      mkdir -p "${target%/*}"
      : >"$target"
    fi
    mount --bind "$source" "$target"
    mount -o remount,bind,ro "$target"
  done

  cd "$root"
  mkdir .old
  pivot_root . .old
  cd /
  umount -l /.old
  rmdir /.old
  mount --make-rshared / # systemd does this only outside containers; without it late mounts do not reach services
  unset DIR LEAF LOWER SIZE
  exec /lib/systemd/systemd --system --unit=test.target --show-status=no --log-target=journal --log-level=info
}
export -f inside

# The leaf is joined inside the new process namespace, and only then becomes the root of the cgroup namespace.
exec env container=test unshare --fork --kill-child --pid --mount --ipc --uts --net --propagation private \
  bash -c 'echo 0 >"$LEAF/cgroup.procs"; exec unshare --cgroup bash -euc "inside \"\$@\"" inside "$@"' boot "$@"
