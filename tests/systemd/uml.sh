#!/bin/bash
# uml.sh DIR INIT ARG: runs "INIT ARG" as process 1 of a Linux of its own (user-mode-linux), whose kernel can mount
# cifs and NFS.  Its root is a throw-away overlay of this machine's /, the upper layer RAM below DIR.
set -eu
export DIR=$1 INIT=$2 ARG=$3

inside() {
  mount -t tmpfs -o size=2g tmpfs "$DIR"
  mkdir "$DIR/upper" "$DIR/work" "$DIR/root"
  mount -t overlay -o "lowerdir=/,upperdir=$DIR/upper,workdir=$DIR/work" overlay "$DIR/root"
  cd "$DIR/root"
  rm -rf lib/modules && ln -s /usr/lib/uml/modules lib/modules
  mount -t tmpfs -o mode=1777 tmpfs dev/shm
  for name in null zero urandom tty; do [ -e "dev/$name" ] || cp -a "/dev/$name" "dev/$name"; done
  mount -t proc proc proc
  printf '#!/bin/bash\nexport PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nexport HEYGEMD_PYTHON=%q\nexec %q %q\n' "$HEYGEMD_PYTHON" "$INIT" "$ARG" >uml-init
  chmod 755 uml-init
  TMPDIR=/dev/shm exec chroot . linux.uml mem=1G rootfstype=hostfs rootflags=/ rw init=/uml-init con=null \
    con0=null,fd:1 quiet </dev/null
}
export -f inside
exec unshare --mount --pid --fork --kill-child --propagation private bash -euc inside
