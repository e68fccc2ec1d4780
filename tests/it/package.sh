#!/bin/bash
# The life of an installed package, in a file system of its own over the machine's: nothing of it is written there.
# Called by package.rs within namespaces for mounts, processes and network, as
#     package.sh DIRECTORY     with first.deb and second.deb, of a higher version; a tmpfs is mounted on DIRECTORY/over
# Each step that does not end as it must says so and ends the whole.
set -euo pipefail
export LC_ALL=C DEBIAN_FRONTEND=noninteractive

say() { echo "== $*"; }
fail() { echo "FAILED: $*"; exit 1; }

if [ "${2:-}" != inside ]; then
    ip link set lo up
    over=$1/over
    mkdir -p "$over"
    mount -t tmpfs tmpfs "$over"
    mkdir "$over/upper" "$over/work" "$over/root"
    mount -t overlay overlay -o "lowerdir=/,upperdir=$over/upper,workdir=$over/work" "$over/root"
    root=$over/root
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    for fresh in tmp run var/log; do mount -t tmpfs tmpfs "$root/$fresh"; done
    mkdir "$root/tmp/package"
    cp "$1"/*.deb "$1/package.sh" "$root/tmp/package/"
    # A package manager that takes this for a machine with systemd, whose part of it is played below.
    mkdir -p "$root/run/systemd/system"
    status=0
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root chroot "$root" \
        bash /tmp/package/package.sh /tmp/package inside || status=$?
    say "what is left"
    (cd "$over/upper" && find . -name '*gander*' ! -path './var/lib/dpkg/*' ! -path './var/cache/*' | sort)
    exit "$status"
fi

cd "$1"
rm -f /usr/bin/systemctl /usr/sbin/policy-rc.d
cat > /usr/bin/systemctl << 'END'
#!/bin/bash
# The part of systemd: starts the unit's command as its user, with its environment, in its directory.
unit() { sed -n "s|^$1=||p" /usr/lib/systemd/system/gander.service; }
is_active() { [ -e /run/gander.pid ] && kill -0 "$(cat /run/gander.pid)" 2>/dev/null; }
start() {
    is_active && return
    set -a; . "$(unit EnvironmentFile | tr -d -)"; set +a
    install -d -o "$(unit User)" -g "$(unit Group)" -m "$(unit StateDirectoryMode)" "$(unit WorkingDirectory)"
    cd "$(unit WorkingDirectory)"
    setpriv --reuid "$(unit User)" --regid "$(unit Group)" --init-groups $(unit ExecStart) > /dev/null 2>> /run/gander.log &
    echo $! > /run/gander.pid
    timeout 60 bash -c "until gander health; do sleep 0.1; done" > /dev/null 2>&1
}
stop() {
    is_active || return 0
    kill "$(cat /run/gander.pid)"
    timeout 60 bash -c "while kill -0 $(cat /run/gander.pid); do sleep 0.1; done" > /dev/null 2>&1
}
words=("$@")
[[ ${words[0]} == --* ]] && words=("${words[@]:1}")
echo "${words[*]}" >> /run/systemctl.log
case ${words[0]} in
    start | stop) "${words[0]}" ;;
    try-restart) is_active && { stop; start; } ;;
    is-active) is_active ;;
esac
exit
END
chmod +x /usr/bin/systemctl

in_state() { gander events list --state "$1" --json | { grep -o '"incident_key"' || true; } | wc -l; }
queued() { in_state queued; }
expect_queued() { [ "$(queued)" = "$2" ] || fail "$1: $(queued) events are queued, not $2; $(tail -n 5 /run/gander.log)"; }
process() { cat /run/gander.pid; }

say "installed"
dpkg -i first.deb
[ ! -e /run/gander.pid ] || fail "it was started without its tokens"
[ "$(stat -c '%a %U' /etc/gander/environment)" = "600 root" ] || fail "secrets are readable"
(cd / && gander check > /tmp/check 2>&1) && fail "it checks without tokens"
for token in SERVICEPILOT_TOKEN CALLGOOSE_TOKEN; do
    grep -q "$token is not set" /tmp/check || fail "$(cat /tmp/check)"
done
[ "$(grep -c '^error' /tmp/check)" = 2 ] || fail "more is wrong than what is to be filled in: $(cat /tmp/check)"
systemd-analyze verify --man=no /usr/lib/systemd/system/gander.{service,socket} 2>&1 | grep gander && fail "systemd complains"
for file in /usr/share/man/man1/gander-check.1.gz /usr/share/bash-completion/completions/gander \
    /etc/gander/schema/config.json /usr/share/doc/gander/config/OPERATING.md /usr/share/doc/gander/copyright; do
    [ -e "$file" ] || fail "$file is missing"
done
dpkg --verify gander | grep . && fail "files differ from their sums"

say "configured, started, with events that wait"
cat > /etc/gander/environment << 'END'
SERVICEPILOT_TOKEN=0123456789abcdef0123456789abcdef
CALLGOOSE_TOKEN=sandbox
GANDER_UPSTREAM__URL=http://127.0.0.1:8090/sqibs-api/v1/process
GANDER_UPSTREAM__BREAKER__OPEN=1s
GANDER_UPSTREAM__RETRY__MAX=1s
NO_PROXY=*
END
set -a; . /etc/gander/environment; set +a
sed -i 's/^    from: ServicePilot.*/    from: My ServicePilot/' /etc/gander/gander.yaml
grep -q 'My ServicePilot' /etc/gander/gander.yaml || fail "the configuration was not changed"
(cd / && gander check) || fail "it does not check"
systemctl start gander.service
for n in 1 2 3; do
    echo "{\"servicepilot_event_id\": \"e$n\", \"state\": \"CRITICAL\", \"title\": \"Disk $n full\"}" \
        | curl -sS --fail --cacert /var/lib/gander/certs/server.pem -H "Authorization: Bearer $SERVICEPILOT_TOKEN" \
            -H 'Content-Type: application/json' --data-binary @- https://localhost:8443/hooks/servicepilot > /dev/null
done
expect_queued started 3

say "upgraded"
first=$(process)
dpkg -i second.deb
[ "$(process)" != "$first" ] || fail "the upgrade left the old program running"
expect_queued upgraded 3
grep -q 'My ServicePilot' /etc/gander/gander.yaml || fail "the upgrade changed the configuration"
grep -q '^CALLGOOSE_TOKEN=sandbox' /etc/gander/environment || fail "the upgrade changed the secrets"
DPKG_MAINTSCRIPT_PACKAGE=gander DPKG_MAINTSCRIPT_NAME=postinst /var/lib/dpkg/info/gander.postinst configure 0.1.0 \
    || fail "a second run of postinst"

say "downgraded"
second=$(process)
dpkg -i first.deb
[ "$(process)" != "$second" ] || fail "the downgrade left the new program running"
expect_queued downgraded 3

say "backed up and restored"
sqlite3 -readonly /var/lib/gander/data/journal.db ".backup '/tmp/journal.db'"
systemctl stop gander.service
mkdir /var/lib/gander/data.before
mv /var/lib/gander/data/* /var/lib/gander/data.before/
install -o gander -g gander -m 0600 /tmp/journal.db /var/lib/gander/data/journal.db
systemctl start gander.service
expect_queued restored 3

say "delivered"
gander sandbox > /run/sandbox.log 2>&1 &
sandbox=$!
export -f in_state
timeout 60 bash -c 'until [ "$(in_state delivered)" = 3 ]; do sleep 0.2; done' \
    || fail "not all is delivered: $(gander events list)"
expect_queued delivered 0

say "removed"
running=$(process)
dpkg -r gander
kill -0 "$running" 2> /dev/null && fail "it still runs"
[ ! -e /usr/bin/gander ] || fail "the program is still there"
for kept in /etc/gander/gander.yaml /etc/gander/environment /var/lib/gander/data/journal.db; do
    [ -e "$kept" ] || fail "the removal took $kept"
done

say "purged"
dpkg -P gander
kill "$sandbox" 2> /dev/null || true
for gone in /etc/gander /var/lib/gander /usr/share/doc/gander /usr/share/gander; do
    [ ! -e "$gone" ] || fail "the purge left $gone: $(find "$gone")"
done
id gander > /dev/null || fail "the user's number may go to somebody else"
dpkg -P gander 2> /dev/null || fail "a second purge"
say "done"
