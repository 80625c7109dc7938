#!/usr/bin/env bash
# Prints the README's table of what splitting gains by the traffic of these
# files, at typical errors.
set -euo pipefail
cd "$(dirname "$0")/../.."
go test ./planner -count=1 -run '^TestTrafficTable$' -v -args -traffic-table | grep '^|'
