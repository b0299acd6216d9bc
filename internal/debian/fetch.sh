#!/bin/sh
# fetch.sh SUITE ARCH DIR MIRROR FOLLOW EXCLUDE PACKAGE...
#
# Unpacks into DIR/root the newest version of each package in a Debian suite, and of the
# dependencies whose names FOLLOW matches, without the files that EXCLUDE matches. It uses
# apt's own tools and signature checks with package lists in DIR: the machine's sources,
# packages and architectures do not change. SUITE may be two, "sid+experimental": then the
# second is preferred. DIR/packages lists what was fetched, a line "name version
# architecture" each; it is written last.
set -eu

suite=$1 arch=$2 dir=$3 mirror=$4 follow=$5 exclude=$6
shift 6

mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
apt=$dir/apt
rm -rf "$apt" "$dir/root" "$dir/packages" "$dir/request"
mkdir -p "$apt/lists/partial" "$apt/archives/partial" "$dir/root"
trap 'rm -rf "$apt"' EXIT
trap 'exit 1' HUP INT TERM

for s in $(echo "$suite" | tr + ' '); do
	echo "deb $mirror $s main"
done >"$apt/sources.list"
preferred=${suite##*+}
: >"$apt/status"
cat >"$apt/apt.conf" <<END
Dir::Etc::SourceList "$apt/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Dir::State "$apt";
Dir::State::Lists "$apt/lists";
Dir::State::Status "$apt/status";
Dir::Cache "$apt";
APT::Architecture "$arch";
APT::Architectures { "$arch"; };
APT::Default-Release "$preferred";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Check-Valid-Until "false";
Acquire::Retries "3";
APT::Update::Error-Mode "any";
END
export APT_CONFIG="$apt/apt.conf"

apt-get -qq update
for name; do
	apt-cache show "$name" >/dev/null 2>&1 && continue
	stem=$name there=
	while [ -z "$there" ] && [ "$stem" != "${stem%[-.+]*}" ]; do
		stem=${stem%[-.+]*}
		there=$(apt-cache pkgnames "$stem" | grep -v -e '-dbg$' | sort | head -20)
	done
	echo "there is no package $name in $suite; there are:" ${there:-none like it} >&2
	exit 1
done
new=$*
while [ -n "$follow" ] && [ -n "$new" ]; do
	found=$(apt-cache depends $new | sed -n 's/^ *|*Depends: //p' | grep -E "$follow" | sort -u || :)
	new=
	for name in $found; do
		case " $* " in *" $name "*) ;; *) set -- "$@" "$name" && new="$new $name" ;; esac
	done
done
cd "$apt/archives"
apt-get -qq download "$@"
for deb in *.deb; do
	dpkg-deb --fsys-tarfile "$deb" >"$apt/files.tar"
	tar -xf "$apt/files.tar" -C "$dir/root" --exclude "${exclude:-/}"
	dpkg-deb --show --showformat '${Package} ${Version} ${Architecture}\n' "$deb"
done >"$dir/packages.part"
mv "$dir/packages.part" "$dir/packages"
