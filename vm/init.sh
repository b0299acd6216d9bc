#!/bin/busybox sh
# The guest's first process: init NONCE SUITE HOW..., from the kernel's command line.
# For each way of linking it runs the jobs below and tells the host, on the console,
# in lines that begin with the nonce. SUITE is a flag for the static tests.
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

# job NAME SECONDS COMMAND...: run one with a time limit and tell its output and status.
job() {
	name=$1 limit=$2
	shift 2
	say start "$name"
	read -r begin _ </proc/uptime
	timeout -s QUIT -k 10 "$limit" "$@" >/tmp/output 2>&1 </dev/null
	status=$?
	read -r end _ </proc/uptime
	# Of tests, what did not pass; and how many did, and were skipped.
	grep -v -E '^ *(=== (RUN|PAUSE|CONT|NAME)|--- (PASS|SKIP))' /tmp/output | tail -n 300 | tail -c 60000
	say end "$name" $status "$begin" "$end" "$(grep -c '^--- PASS' /tmp/output)" "$(grep -c '^--- SKIP' /tmp/output)"
}

say boot "$(uname -r)"
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
	job "$how/show" 60 $dir/rseq show --json
	job "$how/inspect" 60 $dir/rseq inspect 1
	job "$how/doctor" 120 $dir/rseq doctor --stress
	case $how in
	dynamic) cd cmd/rseq && job "$how/command" 300 $dir/command.test -test.v -test.short -test.timeout 280s ;;
	*)
		tests=$suite
		[ "$how" = static ] || tests=-test.short
		job "$how/suite" 600 $dir/rseq.test -test.v $tests -test.timeout 580s
		job "$how/percpu" 600 $dir/percpu.test -test.v $tests -test.timeout 580s
		;;
	esac
done
say done
reboot -f # and qemu ends
