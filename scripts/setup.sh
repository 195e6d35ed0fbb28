# Source this, then call `setup`: creates .venv, installs clipsearch in it and prepends its programs to PATH.
# `setup dev` also installs the test dependencies. Reinstalls only when pyproject.toml changes.
# `setup GROUP FOLDER` uses another folder than .venv.
# Uses uv if it is on PATH, otherwise pip. Needs Python 3.11 or newer; set PYTHON to choose one.

setup() {
    local python candidate log wanted status=0 venv=${2:-.venv}
    python=${PYTHON:-}
    for candidate in python3 python3.14 python3.13 python3.12 python3.11 python; do
        [ -n "$python" ] && break
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            python=$candidate
        fi
    done
    if [ -z "$python" ]; then
        echo "clipsearch needs Python 3.11 or newer; set PYTHON to its path" >&2
        return 2
    fi
    wanted="${1:-} $(cksum <pyproject.toml)"
    case "$(cat "$venv/installed" 2>/dev/null)" in
        "$wanted" | "dev $(cksum <pyproject.toml)") ;;
        *)
            log=$(mktemp)
            echo "Installing clipsearch and its dependencies into $venv (about 400 MB)" >&2
            install_into_venv "$python" "$venv" ${1:+--group "$1"} 2>&1 | show_progress "$log" || status=$?
            if [ "$status" -ne 0 ]; then
                cat "$log" >&2
                return 2
            fi
            rm -f "$log"
            echo "$wanted" >"$venv/installed"
            ;;
    esac
    if [ -d "$venv/Scripts" ]; then PATH=$PWD/$venv/Scripts:$PATH; else PATH=$PWD/$venv/bin:$PATH; fi
    export PATH
}

# install_into_venv PYTHON FOLDER [--group NAME]: arguments after FOLDER go to `pip install`.
install_into_venv() {
    local python=$1 venv=$2
    shift 2
    if command -v uv >/dev/null; then
        [ -d "$venv" ] || uv venv --seed --python "$python" "$venv" || return
        uv pip install --python "$venv" -e . "$@"
        return
    fi
    [ -d "$venv" ] || "$python" -m venv "$venv" || return
    if [ -d "$venv/Scripts" ]; then python=$venv/Scripts/python; else python=$venv/bin/python; fi
    # The pip that comes with Python 3.11 has no --group, and takes 19 s of CPU time instead of 15 s.
    "$python" -m pip install --no-compile --upgrade 'pip>=25.1' || return
    # For the demo, compiling everything takes longer (5 s) than compiling what is imported. Tests start many processes.
    [ $# -gt 0 ] || set -- --no-compile
    "$python" -m pip install -e . "$@"
}

# show_progress LOG: write stdin to LOG, and on a terminal show the latest line.
show_progress() {
    local line
    while IFS= read -r line; do
        printf '%s\n' "$line" >>"$1"
        [ ! -t 2 ] || printf '\r\033[K%.79s' "$line" >&2
    done
    [ ! -t 2 ] || printf '\r\033[K' >&2
}
