#!/usr/bin/env bash
# Prints the README's table of file types: each one's file as llama-quantize
# writes it beside plans of at most its size, from typical errors and from
# measured ones, as apply writes them. KL divergences are llama-perplexity's
# over eval.txt in windows of 128 tokens, in nats per token from the F16 model.
# Needs llama.cpp's programs, which .ci/llama-cpp builds; a few minutes.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PATH="$work:${GGUFPLAN_LLAMA_BIN:-$root/node_modules/.llama.cpp/bin}:$PATH"
(cd "$root" && go build -o "$work/ggufplan" ./cmd/ggufplan)
cd "$work"
model=$here/model-f16.gguf imatrix=$here/mix.imatrix.gguf
# Without --no-repack v0.5.0 fails on processors with AMX.
evaluate() {
	llama-perplexity -m "$1" -f "$here/eval.txt" -c 128 -b 128 -t 1 --no-repack --kl-divergence-base base.kld "${@:2}" >log 2>&1 || { cat log >&2; exit 1; }
}
divergence() {
	# On a busy machine v0.5.0 now and then ends before it has printed all.
	for _ in 1 2 3 4 5 6 7 8; do
		evaluate "$1" --kl-divergence
		awk '$1 == "Mean" && $2 == "KLD:" { print $3; found = 1 } END { exit !found }' log && return
	done
	echo "llama-perplexity printed no mean of $1" >&2
	return 1
}
evaluate "$model"
ggufplan measure "$model" --stats "$imatrix" -q -o errors.json
echo '| as large as | file type | plan at once | plan from measured errors | change |'
echo '|---|--:|--:|--:|--:|'
for type in Q2_K Q3_K_S Q3_K_M IQ4_XS Q4_K_M Q5_K_M; do
	llama-quantize --imatrix "$imatrix" "$model" stock.gguf "$type" >log 2>&1 || { cat log >&2; exit 1; }
	row="| $type, $(stat -c %s stock.gguf | awk '{ printf "%.2f MB", $1 / 1e6 }')"
	stock=$(divergence stock.gguf)
	row="$row | $stock"
	for errors in "" "--errors errors.json"; do
		# shellcheck disable=SC2086
		ggufplan plan "$model" --imatrix "$imatrix" --like "$type" $errors -q -o plan.json
		ggufplan apply plan.json "$model" --imatrix "$imatrix" -q -o planned.gguf
		[ "$(stat -c %s planned.gguf)" -le "$(stat -c %s stock.gguf)" ]
		own=$(divergence planned.gguf)
		row="$row | $own"
		rm planned.gguf
	done
	echo "$row | $(awk -v a="$stock" -v b="$own" 'BEGIN { printf "%+.0f %%", 100 * (b / a - 1) }') |"
done
