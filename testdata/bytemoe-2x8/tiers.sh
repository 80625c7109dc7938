#!/usr/bin/env bash
# Prints the README's table of split plans: the KL divergence of files of fused
# and of split plans, as llama.cpp runs them on eval.txt in windows of 128
# tokens. Needs what .ci/llama-cpp puts under node_modules.
set -euo pipefail
cd "$(dirname "$0")/../.."
bin=${GGUFPLAN_LLAMA_BIN:-$PWD/node_modules/.llama.cpp/bin}
test=$(mktemp)
trap 'rm -f "$test"' EXIT
go test -c -o "$test" ./cmd/ggufplan
cd cmd/ggufplan
LD_PRELOAD=$bin/libtiers.so GGUFPLAN_LLAMA_TIERS=1 GGUFPLAN_REQUIRE_LLAMA=1 "$test" -test.run '^TestTierTable$' -tier-table | grep '^|'
