# A decoder that replays products made before: it copies those of its RetDef's chunk into OUTDIR.
while [ $# -gt 0 ]; do
  case $1 in
    -r) retdef=${2##*/} ;;
    -o) out=$2 ;;
    -k) ;;
    -k*) shift && continue ;;
    --source) source=$2 ;;
    *) exit 2 ;;
  esac
  shift 2
done
chunk=${retdef#RetDef-} chunk=${chunk%.xml}
set --
for file in "$source/${chunk%-*}"/*-"${chunk#*-}".evt "$source/${chunk%-*}"/*-"${chunk#*-}".idx; do
  [ -e "$file" ] || continue
  set -- "$@" "$file"
  name=${file##*/} ground=${name%%-*} run=${name#*-}
  echo "getLSEChunk: processing $ground-${run%%-*}-"
done
[ $# -eq 0 ] || exec cp "$@" "$out"
