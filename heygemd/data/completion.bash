
# What shtab's bash completion lacks: names with spaces, --option=value, the ids of jobs, unknown commands.
_heygemd_files() { compgen -f -- "$1"; }
_heygemd_dirs() { compgen -d -- "$1"; }
_heygemd_jobs() {
    compgen -W "$(heygemd jobs 2>/dev/null | grep -oE '^[0-9]{8}-[0-9]{6}-[0-9a-f]+\.[0-9]+')" -- "$1"
}
_heygemd() {
    local IFS=$' \t\n' at=$COMP_CWORD i
    local -a typed=()
    for i in "${!COMP_WORDS[@]}"; do # bash makes three words of --option=value
        if [[ ${COMP_WORDS[i]} != = ]]; then
            typed+=("${COMP_WORDS[i]}")
        elif ((i == COMP_CWORD)); then
            typed+=('')
        elif ((i < COMP_CWORD)); then
            ((at -= 1))
        fi
    done
    local -a COMP_WORDS=("${typed[@]}")
    local COMP_CWORD=$at
    COMPREPLY=()
    if ((at > 1)) && [[ ${typed[1]} != -* && " ${_shtab_heygemd_subparsers[*]} " != *" ${typed[1]} "* ]]; then
        return
    fi
    _shtab_heygemd
}
complete -F _heygemd heygemd
