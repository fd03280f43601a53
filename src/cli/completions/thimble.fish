# fish completion for thimble. In ~/.config/fish/config.fish:  thimble completions fish | source
function __thimble_offers
    set -l words (commandline -opc)
    set -l typed (commandline -ct)
    set -l part (string match -r '^((?:--[^=]*=)?)(.*)$' -- "$typed")
    for line in (command $words[1] completions words -- $words[2..-1] "$typed" 2>/dev/null)
        switch $line
            case :files
                __fish_complete_path "$part[3]" | string replace -r '^' -- "$part[2]"
            case :directories
                __fish_complete_directories "$part[3]" '' | string replace -r '^' -- "$part[2]"
            case '*'
                echo $line
        end
    end
end
complete -c thimble -f -a '(__thimble_offers)'
