# bash completion for thimble. In ~/.bashrc:  source <(thimble completions bash)
_thimble() {
    # Bash parts words at = and : as well; thimble is given what was typed.
    local typed=${COMP_LINE:0:COMP_POINT} word=$2 line
    local -a words
    read -ra words <<<"$typed"
    [[ $typed == *[[:space:]] ]] && words+=("")
    local last=${words[-1]}
    local before=${last%"$word"}
    COMPREPLY=()
    while IFS= read -r line; do
        case $line in
            :files) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$word") ;;
            :directories) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- "$word") ;;
            *) line=${line%%$'\t'*}; COMPREPLY+=("${line#"$before"}") ;;
        esac
    done < <("$1" completions words -- "${words[@]:1}" 2>/dev/null)
}
complete -F _thimble thimble
