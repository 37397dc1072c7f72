"""Real Envoys fed by the real control plane from a real etcd, with small services behind them."""
