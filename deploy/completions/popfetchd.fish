# Completion for popfetchd(8). Written by `make docs`.

function __popfetchd_accounts
    set -l words (commandline -opc)
    set -l file
    if set -l at (contains -i -- -c $words; or contains -i -- --config $words)
        set file -c (string replace -r '^~/' "$HOME/" -- $words[(math $at + 1)])
    end
    $words[1] config names $file 2>/dev/null
end

# Whether the words so far begin with these; and whether they are these alone.
function __popfetchd_in
    set -l words (commandline -opc)
    set -e words[1]
    test "$words[1..$(count $argv)]" = "$argv"
end

function __popfetchd_at
    set -l words (commandline -opc)
    set -e words[1]
    test "$words" = "$argv"
end

complete -c popfetchd -f
complete -c popfetchd -n '__popfetchd_at' -s h -l help -d 'show this help message and exit'
complete -c popfetchd -n '__popfetchd_at' -l version -d 'show program\'s version number and exit'
complete -c popfetchd -n '__popfetchd_at' -a run -d 'Run the service: visit every account on its schedule'
complete -c popfetchd -n '__popfetchd_at' -a healthcheck -d 'Ask the running service whether it is well'
complete -c popfetchd -n '__popfetchd_at' -a demo -d 'Run the service on a maildrop of its own'
complete -c popfetchd -n '__popfetchd_at' -a fetch -d 'Visit accounts once, now'
complete -c popfetchd -n '__popfetchd_at' -a retry -d 'Try quarantined messages again at the next visit'
complete -c popfetchd -n '__popfetchd_at' -a status -d 'Show every account: last visit, next, failures'
complete -c popfetchd -n '__popfetchd_at' -a check -d 'Connect, log in, and tell all that the server shows; change nothing'
complete -c popfetchd -n '__popfetchd_at' -a list -d 'Show the messages of a maildrop; marks none as read'
complete -c popfetchd -n '__popfetchd_at' -a browse -d 'Go through a maildrop message by message: read, archive, delete'
complete -c popfetchd -n '__popfetchd_at' -a verify -d 'Read archives against the ledger: is all there'
complete -c popfetchd -n '__popfetchd_at' -a rebuild -d 'Make the ledger again from the archives'
complete -c popfetchd -n '__popfetchd_at' -a backup -d 'Copy the ledger, also while the service runs'
complete -c popfetchd -n '__popfetchd_at' -a config -d 'Check or show the configuration'
complete -c popfetchd -n '__popfetchd_at config' -a check -d 'Tell every mistake, with its place'
complete -c popfetchd -n '__popfetchd_at config' -a show -d 'Show the effective configuration, without secrets'
complete -c popfetchd -n '__popfetchd_at config' -a names -d 'Print the accounts\' names, also where there are mistakes'
complete -c popfetchd -n '__popfetchd_at config' -a schema -d 'Print the JSON schema'
complete -c popfetchd -n '__popfetchd_at' -a init -d 'Write a first configuration and test its login'
complete -c popfetchd -n '__popfetchd_in run' -s h -l help -d 'show this help message and exit'
complete -c popfetchd -n '__popfetchd_in run' -s c -l config -r -F -d 'the configuration'
complete -c popfetchd -n '__popfetchd_in healthcheck' -s h -l help -d 'show this help message and exit'
complete -c popfetchd -n '__popfetchd_in healthcheck' -s c -l config -r -F -d 'the configuration'
complete -c popfetchd -n '__popfetchd_in healthcheck' -l url -x -d 'where it listens, if not where the file says'
complete -c popfetchd -n '__popfetchd_in demo' -s h -l help -d 'show this help message and exit'
complete -c popfetchd -n '__popfetchd_in demo' -l seconds -x -d 'end by itself after N seconds'
complete -c popfetchd -n '__popfetchd_in demo' -l listen -x -d 'where the page and the metrics are served'
complete -c popfetchd -n '__popfetchd_in demo' -l directory -x -a '(__fish_complete_directories)' -d 'keep everything there'
complete -c popfetchd -n '__popfetchd_in fetch' -s h -l help -d 'show this help message and exit'
complete -c popfetchd -n '__popfetchd_in fetch' -s c -l config -r -F -d 'the configuration'
complete -c popfetchd -n '__popfetchd_in fetch' -s n -l dry-run -d 'only tell what a visit would do'
complete -c popfetchd -n '__popfetchd_in fetch' -l json -d 'print JSON'
complete -c popfetchd -n '__popfetchd_in fetch' -a '(__popfetchd_accounts)'
complete -c popfetchd -n '__popfetchd_in retry' -s h -l help -d 'show this help message and exit'
complete -c popfetchd -n '__popfetchd_in retry' -s c -l config -r -F -d 'the configuration'
complete -c popfetchd -n '__popfetchd_in retry' -l json -d 'print JSON'
complete -c popfetchd -n '__popfetchd_in retry' -a '(__popfetchd_accounts)'
complete -c popfetchd -n '__popfetchd_in status' -s h -l help -d 'show this help message and exit'
complete -c popfetchd -n '__popfetchd_in status' -s c -l config -r -F -d 'the configuration'
complete -c popfetchd -n '__popfetchd_in status' -l failing -d 'only accounts that fail'
complete -c popfetchd -n '__popfetchd_in status' -l watch -x -d 'draw it anew every SECONDS'
complete -c popfetchd -n '__popfetchd_in status' -l json -d 'print JSON'
complete -c popfetchd -n '__popfetchd_in status' -a '(__popfetchd_accounts)'
complete -c popfetchd -n '__popfetchd_in check' -s h -l help -d 'show this help message and exit'
complete -c popfetchd -n '__popfetchd_in check' -s c -l config -r -F -d 'the configuration'
complete -c popfetchd -n '__popfetchd_in check' -l json -d 'print JSON'
complete -c popfetchd -n '__popfetchd_in check' -a '(__popfetchd_accounts)'
complete -c popfetchd -n '__popfetchd_in list' -s h -l help -d 'show this help message and exit'
complete -c popfetchd -n '__popfetchd_in list' -s c -l config -r -F -d 'the configuration'
complete -c popfetchd -n '__popfetchd_in list' -l json -d 'print JSON'
complete -c popfetchd -n '__popfetchd_in list' -a '(__popfetchd_accounts)'
complete -c popfetchd -n '__popfetchd_in browse' -s h -l help -d 'show this help message and exit'
complete -c popfetchd -n '__popfetchd_in browse' -s c -l config -r -F -d 'the configuration'
complete -c popfetchd -n '__popfetchd_in browse' -l oldest -d 'begin with the oldest message'
complete -c popfetchd -n '__popfetchd_in browse' -a '(__popfetchd_accounts)'
complete -c popfetchd -n '__popfetchd_in verify' -s h -l help -d 'show this help message and exit'
complete -c popfetchd -n '__popfetchd_in verify' -s c -l config -r -F -d 'the configuration'
complete -c popfetchd -n '__popfetchd_in verify' -l repair -d 'fetch again what is missing or altered, as far as the server has it'
complete -c popfetchd -n '__popfetchd_in verify' -l json -d 'print JSON'
complete -c popfetchd -n '__popfetchd_in verify' -a '(__popfetchd_accounts)'
complete -c popfetchd -n '__popfetchd_in rebuild' -s h -l help -d 'show this help message and exit'
complete -c popfetchd -n '__popfetchd_in rebuild' -s c -l config -r -F -d 'the configuration'
complete -c popfetchd -n '__popfetchd_in rebuild' -l json -d 'print JSON'
complete -c popfetchd -n '__popfetchd_in rebuild' -a '(__popfetchd_accounts)'
complete -c popfetchd -n '__popfetchd_in backup' -s h -l help -d 'show this help message and exit'
complete -c popfetchd -n '__popfetchd_in backup' -s c -l config -r -F -d 'the configuration'
complete -c popfetchd -n '__popfetchd_in backup' -l force -d 'overwrite FILE'
complete -c popfetchd -n '__popfetchd_in backup' -F
complete -c popfetchd -n '__popfetchd_in config check' -s h -l help -d 'show this help message and exit'
complete -c popfetchd -n '__popfetchd_in config check' -s c -l config -r -F -d 'the configuration'
complete -c popfetchd -n '__popfetchd_in config show' -s h -l help -d 'show this help message and exit'
complete -c popfetchd -n '__popfetchd_in config show' -s c -l config -r -F -d 'the configuration'
complete -c popfetchd -n '__popfetchd_in config names' -s h -l help -d 'show this help message and exit'
complete -c popfetchd -n '__popfetchd_in config names' -s c -l config -r -F -d 'the configuration'
complete -c popfetchd -n '__popfetchd_in config schema' -s h -l help -d 'show this help message and exit'
complete -c popfetchd -n '__popfetchd_in init' -s h -l help -d 'show this help message and exit'
complete -c popfetchd -n '__popfetchd_in init' -s c -l config -r -F -d 'the file to write'
complete -c popfetchd -n '__popfetchd_in init' -l password-file -r -F -d 'a file with the password, to be read there'
complete -c popfetchd -n '__popfetchd_in init' -l archive -r -F -d 'where messages are kept: a folder, an mbox a file'
complete -c popfetchd -n '__popfetchd_in init' -l user -x -d 'the mail address, or whoever logs in'
complete -c popfetchd -n '__popfetchd_in init' -l host -x -d 'the server; HOST:PORT for a port of its own'
complete -c popfetchd -n '__popfetchd_in init' -l provider -x -d 'a mail provider that is known, such as gmail'
complete -c popfetchd -n '__popfetchd_in init' -l tls -x -d 'implicit, stls or none'
complete -c popfetchd -n '__popfetchd_in init' -l format -x -d 'maildir or mbox'
complete -c popfetchd -n '__popfetchd_in init' -l name -x -d 'what the account is called'
complete -c popfetchd -n '__popfetchd_in init' -l no-check -d 'do not test the login'
