#!/bin/busybox sh
# The guest's first process: init NONCE SUITE HOW..., from the kernel's command line.
# For each way of linking, HOW, it runs the jobs below. What it prints for the host begins
# with the nonce. SUITE is a flag for the statically linked tests.
nonce=$1 suite=$2
shift 2

export PATH=/bin HOME=/tmp TMPDIR=/tmp
/bin/busybox --install -s /bin
mkdir -p /proc /sys /dev /tmp
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null
mount -t devtmpfs devtmpfs /dev 2>/dev/null
mount -t tmpfs -o mode=1777 tmpfs /tmp
ip link set lo up 2>/dev/null

say() { printf '\n%s %s\n' "$nonce" "$*"; }

# job NAME SECONDS COMMAND...: run a command with a time limit, and print its output and
# status. Once a minute print which test began last, which also says that the guest is alive.
job() {
	name=$1 limit=$2
	shift 2
	say start "$name"
	read -r begin _ </proc/uptime
	: >/tmp/output
	for _ in $(seq $((limit / every + 1))); do
		sleep $every
		say at "$(awk '/^ *=== RUN/ { test = $3 } END { print test == "" ? "-" : test }' /tmp/output)"
	done &
	alive=$!
	timeout -s QUIT -k 60 "$limit" "$@" >/tmp/output 2>&1 </dev/null
	status=$?
	kill "$alive" 2>/dev/null
	wait "$alive" 2>/dev/null
	read -r end _ </proc/uptime
	# Print the output without the lines of tests that passed or were skipped, whose numbers
	# are printed at the end. If the output is long, print first the lines that name a test:
	# stacks may follow them.
	grep -v -E '^ *(=== (RUN|PAUSE|CONT|NAME)|--- (PASS|SKIP))' /tmp/output >/tmp/told
	if [ "$status" != 0 ] && [ "$(wc -l </tmp/told)" -gt 300 ]; then
		grep -E '^ *--- FAIL: |^panic: |^fatal error: |^SIG[A-Z]+: |^[[:space:]]+running tests:|^		Test' /tmp/told | head -n 40
	fi
	tail -n 300 /tmp/told | tail -c 60000
	say end "$name" $status "$begin" "$end" "$(grep -c '^--- PASS' /tmp/output)" "$(grep -c '^--- SKIP' /tmp/output)"
}

every=60
say boot "$(uname -r)"
# The time limits end what hangs: the slowest tests take about a minute on an idle machine.
limited='-test.timeout 1h'
export RSEQ_PROGRAMS=/rseq/programs
for how; do
	dir=/rseq/$how
	export RSEQ_WANT_OWNER=libc
	unset GLIBC_TUNABLES
	if [ "$how" = off ]; then
		dir=/rseq/static
		export RSEQ_WANT_OWNER=self GLIBC_TUNABLES=glibc.pthread.rseq=0
	fi
	cd /rseq/source
	job "$how/show" 1200 $dir/rseq show --json
	job "$how/inspect" 1200 $dir/rseq inspect 1
	job "$how/doctor" 1200 $dir/rseq doctor --stress
	case $how in
	dynamic) cd cmd/rseq && job "$how/command" 3660 $dir/command.test -test.v -test.short $limited ;;
	*)
		tests=$suite
		[ "$how" = static ] || tests=-test.short
		job "$how/rseq" 3660 $dir/rseq.test -test.v $tests $limited
		job "$how/test" 3660 $dir/test.test -test.v $tests $limited
		job "$how/percpu" 3660 $dir/percpu.test -test.v $tests $limited
		;;
	esac
done
say done
reboot -f # and qemu ends
