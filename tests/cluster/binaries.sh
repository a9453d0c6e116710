#!/usr/bin/env bash
# Builds the Kubernetes binaries of the cluster tier from their published modules, once for each
# state of the go.mod files, into a cache outside the tree. Prints the cache folder, and on stderr what it builds.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
version=$(sed -n 's/^[[:space:]]*k8s.io\/kubernetes \(v[0-9.]*\).*/\1/p; s/^require k8s.io\/kubernetes \(v.*\)/\1/p' "$here/build/control/go.mod" | head -n 1)
key=$(cat "$here"/build/*/go.mod "$here"/build/*/go.sum "$here/binaries.sh" | sha256sum | cut -c1-16)
cache=${TUNEAGENT_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tuneagent-test}/k8s-$key
# Two runs at once must not build into each other.
mkdir -p "$(dirname "$cache")"
exec 9>"$cache.lock"
flock 9
if [ -e "$cache/complete" ]; then echo "$cache"; exit 0; fi
export CGO_ENABLED=0 GOTOOLCHAIN=local
IFS=. read -r major minor _ <<<"${version#v}"
stamp="-X k8s.io/component-base/version.gitVersion=$version -X k8s.io/component-base/version.gitMajor=$major -X k8s.io/component-base/version.gitMinor=$minor"
mkdir -p "$cache/bin" "$cache/cni"
begun=$SECONDS number=0 total=12
build() { # module output package
  number=$((number + 1))
  [ -x "$cache/$2" ] && return 0
  printf 'cluster: building %s, %d of %d, %d s so far\n' "${2#*/}" "$number" "$total" $((SECONDS - begun)) >&2
  (cd "$here/build/$1" && go build -mod=readonly -trimpath -ldflags "-s -w $stamp" -o "$cache/$2.part" "$3" && mv "$cache/$2.part" "$cache/$2") >&2
}
for name in kube-apiserver kube-controller-manager kube-scheduler kubelet kubectl; do
  build control "bin/$name" "k8s.io/kubernetes/cmd/$name"
done
for name in containerd containerd-shim-runc-v2 ctr; do
  build node "bin/$name" "github.com/containerd/containerd/v2/cmd/$name"
done
build node bin/etcd go.etcd.io/etcd/server/v3
build node cni/ptp github.com/containernetworking/plugins/plugins/main/ptp
build node cni/loopback github.com/containernetworking/plugins/plugins/main/loopback
build node cni/host-local github.com/containernetworking/plugins/plugins/ipam/host-local
[ "$number" = "$total" ]
printf 'cluster: built in %d s, kept in %s\n' $((SECONDS - begun)) "$cache" >&2
touch "$cache/complete"
echo "$cache"
