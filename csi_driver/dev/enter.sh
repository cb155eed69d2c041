# enter.sh ROOT SHARED PROGRAM [ARGUMENT...]: run a program in another root directory. Started in a mount namespace of
# its own, which ends with the program and takes the mounts along. SHARED, unless empty, is the same inside and outside.
set -eu
root=$1 shared=$2
shift 2
for system in proc sys dev; do mount --rbind "/$system" "$root/$system"; done
if [ -n "$shared" ]; then
  mkdir -p "$root$shared"
  mount --bind "$shared" "$root$shared"
fi
exec chroot "$root" "$@"
