# Completion for popfetchd(8). Written by `make docs`.

_popfetchd_accounts() {
    local i file=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
            -c | --config) file=(-c "${COMP_WORDS[i + 1]/#\~\//$HOME/}") ;;
        esac
    done
    "${COMP_WORDS[0]}" config names "${file[@]}" 2>/dev/null
}

_popfetchd() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
    local verb=${COMP_WORDS[1]} begin=2 i place=0 many=0 options='' operands=() offer=''
    local words='run healthcheck demo fetch retry status check list browse verify rebuild backup config init -h --help --version'
    COMPREPLY=()
    case $verb in
        config) ((COMP_CWORD > 2)) && verb="$verb ${COMP_WORDS[2]}" begin=3 ;;
    esac
    if ((COMP_CWORD >= begin)); then
        words=''
        case $verb in
            run) options='-h --help -c --config' operands=() ;;
            healthcheck) options='-h --help -c --config --url' operands=() ;;
            demo) options='-h --help --seconds --listen --directory' operands=() ;;
            fetch) options='-h --help -c --config -n --dry-run --json' operands=(account) many=1 ;;
            retry) options='-h --help -c --config --json' operands=(account text) ;;
            status) options='-h --help -c --config --failing --watch --json' operands=(account) many=1 ;;
            check) options='-h --help -c --config --json' operands=(account) many=1 ;;
            list) options='-h --help -c --config --json' operands=(account) ;;
            browse) options='-h --help -c --config --oldest' operands=(account) ;;
            verify) options='-h --help -c --config --repair --json' operands=(account) many=1 ;;
            rebuild) options='-h --help -c --config --json' operands=(account) many=1 ;;
            backup) options='-h --help -c --config --force' operands=(file) ;;
            'config check') options='-h --help -c --config' operands=() ;;
            'config show') options='-h --help -c --config' operands=() ;;
            'config names') options='-h --help -c --config' operands=() ;;
            'config schema') options='-h --help' operands=() ;;
            init) options='-h --help -c --config --password-file --archive --user --host --provider --tls --format --name --no-check' operands=() ;;
            config) words='check show names schema' ;;
        esac
        # Which of the arguments is to come.
        for ((i = begin; i < COMP_CWORD; i++)); do
            case ${COMP_WORDS[i]} in
                -c | --config | --url | --seconds | --listen | --directory | --watch | --password-file | --archive | --user | --host | --provider | --tls | --format | --name) ((i++)) ;;
                -*) ;;
                *) ((many)) || ((place++)) ;;
            esac
        done
        case $before in
            -c) offer=file ;;
            --config) offer=file ;;
            --url) offer=text ;;
            --seconds) offer=text ;;
            --listen) offer=text ;;
            --directory) offer=directory ;;
            --watch) offer=text ;;
            --password-file) offer=file ;;
            --archive) offer=file ;;
            --user) offer=text ;;
            --host) offer=text ;;
            --provider) offer=text ;;
            --tls) offer=text ;;
            --format) offer=text ;;
            --name) offer=text ;;
            *)
                offer=${operands[place]}
                [[ $word == -* ]] && offer='' words=$options
                ;;
        esac
    fi
    case $offer in
        account) words=$(_popfetchd_accounts) ;;
        file) mapfile -t COMPREPLY < <(compgen -f -- "$word") ;;
        directory) mapfile -t COMPREPLY < <(compgen -d -- "$word") ;;
    esac
    [[ $offer == file || $offer == directory ]] && compopt -o filenames 2>/dev/null
    [[ $words ]] && mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}

complete -F _popfetchd popfetchd
