#!/bin/bash
# nas.sh KIND: process 1 of a machine that is both the NAS (Samba, or NFS) and the server that mounts it by the options
# of examples/nas.conf.  The daemon's line lies there; "other people" write on the NAS's own side.  Says what it sees.
set -u
KIND=$1 HERE=$(dirname "$0")
ROOT=$(realpath "$HERE/../..") SHARE=/run/nas LINE=/mnt/nas/heygem
trap 'echo o >/proc/sysrq-trigger; sleep 5' EXIT

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /tmp
mkdir -p /dev/shm
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
ip link set lo up
systemd-sysusers "$ROOT/systemd/heygemd.sysusers"
reach() { # what a checkout and a Python below somebody's home need, here where nothing is kept
  local path=$1
  while [ "$path" != / ]; do chmod a+x "$path" && path=$(dirname "$path"); done
}
reach "$(realpath "$HEYGEMD_PYTHON")"
reach "$ROOT"
mkdir -p $SHARE $LINE /etc/heygemd /run/state
options() { sed -n "s@^# *[^ ]* *$LINE *$KIND *\([^ ]*\).*@\1@p" "$ROOT/systemd/examples/nas.conf"; }
echo "OPTIONS $(options)"

if [ "$KIND" = cifs ]; then
  modprobe cifs
  useradd --groups heygemd-users alice
  install -d -o alice -g heygemd-users -m 2770 $SHARE/heygem
  for d in private lock cache state pid; do mkdir -p /run/smb/$d; done
  cat >/run/smb.conf <<X
[global]
 server role = standalone server
 private dir = /run/smb/private
 lock directory = /run/smb/lock
 cache directory = /run/smb/cache
 state directory = /run/smb/state
 pid directory = /run/smb/pid
 ncalrpc dir = /run/smb/nc
 log file = /run/smb/log
 disable netbios = yes
 load printers = no
[heygem]
 path = $SHARE/heygem
 read only = no
X
  printf 'secret\nsecret\n' | smbpasswd -c /run/smb.conf -s -a alice >/dev/null
  printf 'username=alice\npassword=secret\n' >/etc/heygemd/nas.cred
  serve() { smbd -s /run/smb.conf -D && sleep 2; }
  away() { kill -9 $(pidof smbd); }
  SOURCE=//127.0.0.1/heygem
else
  modprobe nfsd
  modprobe nfsv4
  install -d -o heygemd -g heygemd-users -m 2770 $SHARE/heygem
  mount -t tmpfs tmpfs /var/lib/nfs
  mkdir -p /var/lib/nfs/{v4recovery,rpc_pipefs,nfsdcltrack,sm,sm.bak}
  touch /var/lib/nfs/{etab,rmtab,xtab}
  mount -t nfsd nfsd /proc/fs/nfsd
  mount -t rpc_pipefs r /var/lib/nfs/rpc_pipefs
  rpcbind -w 2>/dev/null
  exportfs -o rw,fsid=0,insecure,no_subtree_check 127.0.0.1:$SHARE
  rpc.mountd -N 2 -N 3
  serve() { rpc.nfsd 2; }
  away() { rpc.nfsd 0; }
  SOURCE=127.0.0.1:/heygem
fi

serve
mount -t $KIND -o "$(options)" $SOURCE $LINE || { echo "MOUNT FAILED"; exit 1; }
echo "MOUNTED $(grep " $LINE " /proc/mounts)"
export -f serve away
export SHARE LINE
# What the daemon does is judged there; it goes away and returns by these two.
HEYGEMD_SERVE="$(declare -f serve); serve" HEYGEMD_AWAY="$(declare -f away); away" \
  timeout -s KILL 600 "$HEYGEMD_PYTHON" "$HERE/nas.py" 2>&1
echo "ENDED $?"
