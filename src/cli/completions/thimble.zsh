#compdef thimble
# zsh completion for thimble. In ~/.zshrc, after compinit:  source <(thimble completions zsh)
_thimble() {
    local line
    local -a found
    for line in "${(@f)$("$words[1]" completions words -- "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
        case $line in
            '') ;;
            :files) compset -P '--*='; _files ;;
            :directories) compset -P '--*='; _files -/ ;;
            *$'\t'*) found+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}") ;;
            *) found+=("${line//:/\\:}") ;;
        esac
    done
    (( $#found )) && _describe thimble found
}
if [[ $funcstack[1] == _thimble ]]; then _thimble; else compdef _thimble thimble; fi
