"""The control plane: membership in etcd becomes Envoy's configuration, over one aggregated stream an Envoy
(`python -m mesh.xds`)."""
