#!/usr/bin/env bash
# Builds the Debian package of a binary that is there already:
#
#   cargo build --release --locked && deploy/debian/build.sh
#   deploy/debian/build.sh --binary target/debug/strata --compression none --version 0.1.0+try --out /tmp
#
# Needs Debian's dpkg-dev and binutils, and no root. The same tree and binary give the same file, byte for byte: times in it are
# SOURCE_DATE_EPOCH, or else the date of deploy/debian/changelog. Prints the path of what it built.
set -euo pipefail

die() {
    echo "build.sh: $1" >&2
    exit 1
}

caller=$PWD
cd "$(dirname "$0")/../.."
binary=target/release/strata out=target/debian version="" compression=xz
while [ $# -gt 0 ]; do
    [ $# -gt 1 ] || die "$1 needs a value"
    case $1 in
        --binary) binary=$(cd "$caller" && realpath -m "$2") ;;
        --out) out=$(cd "$caller" && realpath -m "$2") ;;
        --version) version=$2 ;;
        --compression) compression=$2 ;;
        *) die "no such option: $1 (--binary FILE, --out FOLDER, --version VERSION, --compression xz|none)" ;;
    esac
    shift 2
done
for tool in dpkg-deb dpkg-shlibdeps dpkg-parsechangelog strip gzip md5sum; do
    command -v "$tool" >/dev/null || die "$tool is missing: apt-get install dpkg-dev binutils"
done
[ -f "$binary" ] || die "there is no $binary: cargo build --release --locked, or name one by --binary"

changelog=deploy/debian/changelog
: "${version:=$(dpkg-parsechangelog -l $changelog -S Version)}"
dpkg --validate-version "$version" || die "Debian takes no version $version"
maintainer=$(dpkg-parsechangelog -l $changelog -S Maintainer)
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(dpkg-parsechangelog -l $changelog -S Timestamp)}
architecture=$(dpkg --print-architecture)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Where dpkg-shlibdeps expects what it looks at.
root=$work/debian/strata control=$work/debian/strata/DEBIAN
mkdir -p "$control"
umask 022

put() { # FILE PLACE [MODE]
    install -D -m "${3:-644}" "$1" "$root/$2"
}
squeeze() { # FILE PLACE: with nothing of the clock in it
    mkdir -p "$(dirname "$root/$2")"
    gzip -9n <"$1" >"$root/$2"
}

put "$binary" usr/bin/strata 755
strip --strip-unneeded --remove-section=.comment --remove-section=.note "$root/usr/bin/strata"
put deploy/debian/strata.toml etc/strata/strata.toml
put deploy/debian/logrotate etc/logrotate.d/strata
for unit in strata.service strata@.service; do
    put "deploy/systemd/$unit" "usr/lib/systemd/system/$unit"
done
for example in packets.conf af-xdp.conf probes.conf strata.socket; do
    put "deploy/systemd/$example" "usr/share/strata/systemd/$example"
done
put deploy/debian/sysusers.conf usr/lib/sysusers.d/strata.conf
squeeze deploy/man/strata.1 usr/share/man/man1/strata.1.gz
squeeze deploy/man/strata.toml.5 usr/share/man/man5/strata.toml.5.gz
put deploy/completions/strata.bash usr/share/bash-completion/completions/strata
put deploy/completions/_strata usr/share/zsh/vendor-completions/_strata
put deploy/completions/strata.fish usr/share/fish/vendor_completions.d/strata.fish
put deploy/debian/lintian-overrides usr/share/lintian/overrides/strata
documents=usr/share/doc/strata
put deploy/debian/copyright $documents/copyright
squeeze $changelog $documents/changelog.gz
squeeze CHANGELOG.md $documents/changelog.md.gz
# Links between them hold, and those to what stands elsewhere here are changed: changelog, examples, licences.
find README.md ARCHITECTURE.md docs -name '*.md' -o -path 'docs/*.png' -o -path 'docs/*.json' | LC_ALL=C sort | while read -r page; do
    put "$page" "$documents/$page"
    case $page in *.md)
        sed -E -i 's,\[(`conf/bad/`)\]\(conf/bad/\),\1 of the source,; s,\]\((\.\./)?conf([/)]),](\1examples\2,g; s,\]\((\.\./)?CHANGELOG\.md\),](\1changelog.md.gz),g; s,\]\(LICENSE-[A-Z]+\),](copyright),g' "$root/$documents/$page" ;;
    esac
done
find conf -name '*.toml' -not -path 'conf/bad/*' | LC_ALL=C sort | while read -r file; do
    put "$file" "$documents/examples/${file#conf/}"
done

# What the binary is linked to says which packages it needs. dpkg-shlibdeps wants to stand in a source package.
printf 'Source: strata\n\nPackage: strata\nArchitecture: any\n' >"$work/debian/control"
needs=$(cd "$work" && dpkg-shlibdeps -O debian/strata/usr/bin/strata | sed -n 's/^shlibs:Depends=//p')

cat >"$control/control" <<END
Package: strata
Version: $version
Architecture: $architecture
Maintainer: $maintainer
Installed-Size: $(find "$root" -path "$control" -prune -o -type f -printf '%s\n' | awk '{ kib += int(($1 + 1023) / 1024) } END { print kib }')
Pre-Depends: init-system-helpers (>= 1.54~)
Depends: ${needs:+$needs, }systemd (>= 252) | systemd-standalone-sysusers
Suggests: logrotate, bash-completion
Section: net
Priority: optional
Description: load balancer for every layer
 Strata takes traffic for a service and spreads it over a pool of endpoints,
 driven by one configuration file: Ethernet frames for a virtual address
 (direct return), IP packets (translated or tunnelled), TCP connections, and
 HTTP requests routed by host and path. One pool model, one health model and
 one set of Prometheus metrics hold for all of them.
 .
 It explains every decision it takes, and reloads and upgrades without losing
 a connection.
END
(cd "$root" && find etc -type f | LC_ALL=C sort | sed 's|^|/|') >"$control/conffiles"
(cd "$root" && find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | LC_ALL=C sort -z | xargs -0 md5sum) >"$control/md5sums"
for script in preinst postinst prerm postrm; do
    install -m 755 "deploy/debian/$script" "$control/$script"
done
find "$root" -print0 | xargs -0 touch --no-dereference --date="@$SOURCE_DATE_EPOCH"

mkdir -p "$out"
package=$out/strata_${version}_$architecture.deb
dpkg-deb --root-owner-group --threads-max=1 -Z"$compression" --build "$root" "$work/strata.deb" >/dev/null
mv "$work/strata.deb" "$package"
echo "$package"
