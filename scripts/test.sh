#!/usr/bin/env bash
# What test-unit.sh, test-integration.sh and test-all.sh share (seed 003): the same pytest that `make test` runs.
#
#   scripts/test-all.sh [--verbose] [--html] [--coverage] [-- PYTEST ARGUMENTS]
#
# --html      test-reports/<name>.html (with coverage: test-reports/coverage-<name>/ too), test-reports/<name>.xml
# --coverage  how much of the packages the tests ran, in the processes that they start too; fails where integration
#             tests ran less than 95 % of the servers, users and acceptance tests
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

name=$1
shift
# Unit tests need no process and no socket of ours; all that talk to real ones are integration tests.
unit=(tests/protocols tests/records tests/judge tests/report)
case $name in
    unit) tests=("${unit[@]}") ;;
    integration) tests=(tests "${unit[@]/#/--ignore=}") ;;
    all) tests=(tests) ;;
esac

# As with make: TESTS=tests/protocols/test_frames.py runs these alone.
if [[ ${TESTS:-} ]]; then
    read -ra tests <<<"$TESTS"
fi

options=(-q)
html=
coverage=
while (($#)); do
    case $1 in
        -v | --verbose) options=(-v) ;;
        --html) html=yes ;;
        --coverage) coverage=yes ;;
        -h | --help)
            sed -n '2,8s/^# \{0,1\}//p' scripts/test.sh
            exit 0
            ;;
        --)
            shift
            options+=("$@")
            break
            ;;
        *)
            echo "unknown option $1: there are --verbose, --html, --coverage, and -- before pytest's own" >&2
            exit 2
            ;;
    esac
    shift
done

make --silent setup
python=.venv/bin/python
mkdir -p test-reports
if [[ $html ]]; then
    options+=("--junitxml=test-reports/$name.xml")
fi

status=0
if [[ $coverage ]]; then
    # A file of its own for each session: two at a time do not mix.
    export COVERAGE_FILE=$PWD/test-reports/.coverage-$name-$$
    # The processes that tests start are measured too: coverage hooks into every Python of the environment.
    $python -m coverage run --rcfile=scripts/coverage.ini \
        -m pytest "${tests[@]}" "${options[@]}" || status=$?
    $python -m coverage combine --rcfile=scripts/coverage.ini --quiet || true
    $python -m coverage report --rcfile=scripts/coverage.ini --skip-covered --sort=cover
    # Seed 001: 95 % of the integration scenarios. What they consist of, whole: servers, users, acceptance tests.
    if [[ $name != unit && ! ${TESTS:-} ]]; then
        if ! $python -m coverage report --rcfile=scripts/coverage.ini --format=total --fail-under=95 \
            --include='servers/*,users/*,locustfiles/*,swarmproof/acceptance/*' >"test-reports/coverage-$name.total"; then
            echo "servers, users and acceptance tests are covered to $(head -1 "test-reports/coverage-$name.total") %, less than 95" >&2
            ((status)) || status=1
        fi
    fi
    if [[ $html ]]; then
        $python -m coverage html --rcfile=scripts/coverage.ini --quiet --directory "test-reports/coverage-$name"
    fi
    rm -f "$COVERAGE_FILE"*
else
    $python -m pytest "${tests[@]}" "${options[@]}" || status=$?
fi
if [[ $html ]]; then
    $python scripts/html_report.py "test-reports/$name.xml" "test-reports/$name.html"
fi
exit $status
