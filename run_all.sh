#!/usr/bin/env bash
# Run the whole method, step by step, and print the results table.
#
#     bash run_all.sh                          the embedded demo: no GPU, no key, no download of a model
#     bash run_all.sh --dataset Music_data     a real dataset: needs OPENAI_API_KEY, and a GPU in practice
#     bash run_all.sh --dataset Music_data --dry_run               what that would cost; nothing is asked or spent
#     bash run_all.sh --dataset Music_data --from 2/5 --to 3/3
#
# --from and --to name steps as in the file names, 0/2 to 3/8; 0/2 runs only where --reviews names a dump. --reviews,
# --metadata, --columns, --product_class and --core go to the preprocessing; --base_model, --engine, --max_length,
# --gradient_accumulation, --[no-]gradient_checkpointing and --[no-]padding_free to the trainer; --teacher_model and
# --requests_at_once to the steps that ask the teacher, and --batch_export and --batch_import to the one of them that
# lies in the range; --max_new_tokens to those in which a local model writes; --base_url, --api and --batch_size to
# those that ask a local model; --device to all that load one; --limit to all but 0_Data; --seed, --data_root,
# --checkpoint_root and --overwrite to every step.
# A step whose output is complete and still fits its inputs and settings is skipped. One that waits for a batch of the
# teacher's ends the run with exit code 3.
set -euo pipefail
cd "$(dirname "$0")"

fail() { echo "error: $1" >&2; exit 2; }

DATASET=Demo_data DATA_ROOT=0_Data FROM=0/0 TO=9/9 DRY_RUN=
# Groups of flags; a step names those that it takes.
COMMON=() LIMIT=() RAW=() TRAINER=() TEACHER=() REQUESTS=() BATCH=() DEVICE=() SERVER=() WRITER=() COST=()
while [ $# -gt 0 ]; do
  case "$1" in
    -h | --help) sed -n '2,18s/^# \{0,1\}//p' "$0"; exit 0 ;;
    --dry_run) DRY_RUN=1; shift; continue ;;
    --overwrite) COMMON+=("$1"); shift; continue ;;
    --gradient_checkpointing | --no-gradient_checkpointing | --padding_free | --no-padding_free)
      TRAINER+=("$1") COST+=("$1"); shift; continue ;;
    --dataset | --from | --to | --reviews | --metadata | --columns | --product_class | --core | --base_model | --engine | \
      --gradient_accumulation | --max_length | --max_new_tokens | --teacher_model | --requests_at_once | --batch_export | \
      --batch_import | --base_url | --api | --batch_size | --device | --limit | --seed | --data_root | --checkpoint_root)
      [ $# -ge 2 ] || fail "$1 needs a value" ;;
    *) fail "unknown flag $1; see bash run_all.sh --help" ;;
  esac
  case "$1" in
    --dataset) DATASET=$2 ;;
    --from) FROM=$2 ;;
    --to) TO=$2 ;;
    --reviews | --metadata | --columns | --product_class | --core) RAW+=("$1" "$2") ;;
    --base_model | --max_length) TRAINER+=("$1" "$2") COST+=("$1" "$2") ;;
    --engine | --gradient_accumulation) TRAINER+=("$1" "$2") ;;
    --max_new_tokens) WRITER+=("$1" "$2") COST+=("$1" "$2") ;;
    --teacher_model) TEACHER+=("$1" "$2") COST+=("$1" "$2") ;;
    --requests_at_once) REQUESTS+=("$1" "$2") ;;
    --batch_export | --batch_import) BATCH+=("$1" "$2") ;;
    --base_url | --api | --batch_size) SERVER+=("$1" "$2") ;;
    --device) DEVICE+=("$1" "$2") ;;
    --limit) LIMIT=("$1" "$2") COST+=("$1" "$2") ;;
    --data_root) DATA_ROOT=$2 ;;
    *) COMMON+=("$1" "$2") ;;
  esac
  shift 2
done
within() { [[ ! $1 < $FROM && ! $1 > $TO ]]; }

for step in "$FROM" "$TO"; do
  [[ $step =~ ^[0-9]/[0-9]$ ]] || fail "no step $step: steps are named as in 2/5"
done
if [[ $FROM > $TO ]]; then fail "--from $FROM comes after --to $TO"; fi
if [ "$DATASET" = Demo_data ]; then
  [ ${#RAW[@]} -eq 0 ] || fail "${RAW[0]} needs --dataset: the demo makes its own data"
  [ ${#TEACHER[@]} -eq 0 ] || fail "--teacher_model needs --dataset: the demo has its own teacher"
fi
if [ ${#BATCH[@]} -gt 0 ]; then
  if within 1/1 && within 2/4; then fail "${BATCH[0]} is for one step: --to 1/1 or --from 2/4, not both of them"; fi
  within 1/1 || within 2/4 || fail "${BATCH[0]} is for 1/1 and 2/4, and --from $FROM --to $TO holds neither"
fi
if [ -n "$DRY_RUN" ] && [ ${#RAW[@]} -gt 0 ]; then
  fail "--dry_run counts what the preprocessing wrote: run 0_Data/2_preprocess.py with ${RAW[0]} first"
fi
COMMON+=(--dataset "$DATASET" --data_root "$DATA_ROOT")

# PYTHON names another interpreter that has the requirements; without it the clone gets an environment of its own.
if [ -z "${PYTHON:-}" ]; then . ./install.sh requirements.txt; fi
export PYTHON TOKENIZERS_PARALLELISM=false

if [ -n "$DRY_RUN" ]; then
  exec "$PYTHON" -m reason4rec.systems.reason4rec.cost "${COMMON[@]}" --from "$FROM" --to "$TO" ${COST[@]+"${COST[@]}"}
fi

run() { # step, script, groups of flags
  local step=$1 script=$2 group flags=()
  shift 2
  within "$step" || return 0
  echo "== $step $script"
  if [[ $script != 0_Data/* ]]; then set -- LIMIT "$@"; fi
  for group in COMMON "$@"; do
    group="$group[@]"
    # Before bash 4.4 an empty array counts as unset.
    flags+=(${!group+"${!group}"})
  done
  case "$script" in
    *.sh) bash "$script" "${flags[@]}" ;;
    *) "$PYTHON" "$script" "${flags[@]}" ;;
  esac
}

if [ "$DATASET" = Demo_data ]; then
  TEACHER=(--teacher_model stand-in)
  LOG=$(mktemp)
  # Servers that the environment names hold the experts of another dataset.
  export REASON4REC_BASE_URL=
  "$PYTHON" -u -m reason4rec.demo.stand_in --port 0 >"$LOG" &
  trap 'kill %1 2>/dev/null; rm -f "$LOG"' EXIT
  until grep -q http "$LOG"; do kill -0 %1 2>/dev/null || fail "the stand-in teacher did not start"; sleep 0.1; done
  OPENAI_BASE_URL=$(grep -o 'http.*' "$LOG")
  export OPENAI_BASE_URL OPENAI_API_KEY=none-needed NO_PROXY="127.0.0.1${NO_PROXY:+,$NO_PROXY}"
  echo "== demo: a synthetic world, a tiny language model, and a stand-in for ChatGPT at $OPENAI_BASE_URL"
  run 0/3 0_Data/3_make_demo_data.py
  # Its raw reviews come from 0/3, so it is preprocessed after that, wherever the run begins or ends.
  DUMP=(--reviews "$DATA_ROOT/Demo_data/raw/reviews_Demo.json.gz" --metadata "$DATA_ROOT/Demo_data/raw/meta_Demo.json.gz")
  run 0/3 0_Data/2_preprocess.py DUMP
fi
if [ ${#RAW[@]} -gt 0 ]; then run 0/2 0_Data/2_preprocess.py RAW; fi
run 1/1 1_Summarizer/1_distilling_aspect_preference_summary.py TEACHER REQUESTS BATCH
run 1/2 1_Summarizer/2_construct_summarizer_train_data.py
run 1/3 1_Summarizer/3_summarizer_train.sh TRAINER DEVICE
run 1/4 1_Summarizer/4_summarizer_generation.py WRITER SERVER DEVICE
run 2/1 2_Reasoner/1_sample_train_data.py
run 2/2 2_Reasoner/2_construct_reward_train_data.py
run 2/3 2_Reasoner/3_reward_model_train.sh TRAINER DEVICE
run 2/4 2_Reasoner/4_distilling_possible_reason.py TEACHER REQUESTS BATCH SERVER DEVICE
run 2/5 2_Reasoner/5_construct_reasoner_train_data.py
run 2/6 2_Reasoner/6_reasoner_train.sh TRAINER DEVICE
run 2/7 2_Reasoner/7_generate_reason_for_test.py WRITER SERVER DEVICE
run 3/1 3_Predictor/1_construct_predictor_train_data.py WRITER SERVER DEVICE
run 3/2 3_Predictor/2_predictor_train.sh TRAINER DEVICE
run 3/3 3_Predictor/3_generate_predict_for_test.py SERVER DEVICE
# Before the evaluation, which puts them in its table.
run 3/5 3_Predictor/5_baselines.py
run 3/4 3_Predictor/4_evaluate.py
run 3/7 3_Predictor/7_reason_quality.py
run 3/8 3_Predictor/8_case_study.py
