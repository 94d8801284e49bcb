_heygemd_jobs() {
    local -a jobs=(${(f)"$(heygemd jobs 2>/dev/null | grep -oE '^[0-9]{8}-[0-9]{6}-[0-9a-f]+\.[0-9]+')"})
    compadd -a jobs
}
# shtab's script knows eval and fpath, not: . <(heygemd completion zsh)
if [[ $zsh_eval_context[-1] == file ]]; then
    compdef _shtab_heygemd heygemd
    return
fi
