#!/bin/bash
# Starts what a real control plane needs: etcd, kube-apiserver and the Job controllers of kube-controller-manager, on loopback.
#   start.sh FOLDER PORT: the binaries are in $PACKTIVITY_TEST_KUBERNETES; FOLDER has server.crt, server.key and ca.crt,
#   and tokens.csv (token,user,uid,"groups"). Ends all of them when it is ended.
set -eu
cd "$1"; port=$2 bin=$PACKTIVITY_TEST_KUBERNETES
trap 'trap - EXIT; kill $(jobs -p) 2>/dev/null; wait' EXIT INT TERM
"$bin/etcd" --data-dir etcd --listen-client-urls "http://127.0.0.1:$((port + 1))" \
  --advertise-client-urls "http://127.0.0.1:$((port + 1))" --listen-peer-urls "http://127.0.0.1:$((port + 2))" >etcd.log 2>&1 &
while :; do # started again when a test has killed it
  "$bin/kube-apiserver" --etcd-servers "http://127.0.0.1:$((port + 1))" --secure-port "$port" --bind-address 127.0.0.1 \
    --advertise-address 127.0.0.1 --tls-cert-file server.crt --tls-private-key-file server.key --token-auth-file tokens.csv \
    --authorization-mode RBAC --service-cluster-ip-range 10.254.0.0/24 --service-account-issuer https://kubernetes.test \
    --service-account-key-file server.key --service-account-signing-key-file server.key --allow-privileged \
    --kubelet-preferred-address-types InternalIP --kubelet-client-certificate server.crt --kubelet-client-key server.key \
    --disable-admission-plugins ServiceAccount --feature-gates TTLAfterFinished=true >>apiserver.log 2>&1 &
  echo $! >apiserver.pid
  wait $! || true
done &
while :; do # it gives up when the server is slow, and whoever runs it starts it again
  "$bin/kube-controller-manager" --kubeconfig admin.kubeconfig --controllers job,garbagecollector,ttl-after-finished,namespace \
    --service-account-private-key-file server.key --leader-elect=false --feature-gates TTLAfterFinished=true \
    --secure-port 0 --port 0 >>controllers.log 2>&1 || sleep 0.5
done &
wait
