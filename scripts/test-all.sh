#!/usr/bin/env bash
# See scripts/test.sh for the options.
exec "$(dirname "${BASH_SOURCE[0]}")/test.sh" all "$@"
