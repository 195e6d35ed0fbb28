# Source this, then call `setup`: creates .venv, installs clipsearch in it and prepends its programs to PATH.
# `setup dev` also installs the test dependencies. Reinstalls only when pyproject.toml changes.
# `setup GROUP FOLDER` uses another folder than .venv.
# Needs Python 3.11 or newer; set PYTHON to choose one.

setup() {
    local python candidate log wanted venv=${2:-.venv}
    python=${PYTHON:-}
    for candidate in python3 python3.13 python3.12 python3.11 python; do
        [ -n "$python" ] && break
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            python=$candidate
        fi
    done
    if [ -z "$python" ]; then
        echo "clipsearch needs Python 3.11 or newer; set PYTHON to its path" >&2
        return 2
    fi
    [ -d "$venv" ] || "$python" -m venv "$venv"
    if [ -d "$venv/Scripts" ]; then PATH=$PWD/$venv/Scripts:$PATH; else PATH=$PWD/$venv/bin:$PATH; fi
    export PATH
    wanted="${1:-} $(cksum <pyproject.toml)"
    case "$(cat "$venv/installed" 2>/dev/null)" in
        "$wanted" | "dev $(cksum <pyproject.toml)") return ;;
    esac
    echo "installing into $venv; the first time, this downloads several gigabytes, mostly torch" >&2
    log=$(mktemp)
    if ! {
        python -m pip install -q --upgrade 'pip>=25.1' &&
            python -m pip install -q -e . ${1:+--group "$1"}
    } >"$log" 2>&1; then
        cat "$log" >&2
        return 2
    fi
    rm -f "$log"
    echo "$wanted" >"$venv/installed"
}
