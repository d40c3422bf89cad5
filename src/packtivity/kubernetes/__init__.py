"""Tasks in a Kubernetes cluster, under the name of upstream 0.17.1."""

from packtivity.backends.engines.kubernetes.backend import DirectExternalKubernetesBackend

__all__ = ["DirectExternalKubernetesBackend"]
