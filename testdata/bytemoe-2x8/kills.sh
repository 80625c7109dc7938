#!/usr/bin/env bash
# Kills ggufplan apply 100 times, or as often as said, at random moments, and
# compares what each resumed run writes with an undisturbed run's file.
set -euo pipefail
cd "$(dirname "$0")/../.."
go test ./cmd/ggufplan -count=1 -timeout 2h -run '^TestAppliedAfterKills$' -v -args -apply-kills "${1:-100}" | grep -E '^ *apply_kill|^(---|FAIL|ok)'
