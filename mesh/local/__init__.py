"""The whole mesh on one machine: what `make run` starts and what end-to-end tests stand on.

```python
async with LocalMesh(LocalSettings(counts={"sip_cluster": 3}, run_dir=tmp_path, net=None)) as mesh:
    mesh.edge                       # "127.10.0.5:8443", TLS; mesh.ca_file
    mesh.sip_proxies                # ["127.10.4.1:5060", …]
    mesh.token("t1")                # a bearer token of that tenant
    mesh.process("sip_cluster-0").kill()
```
"""

from mesh.local.layout import Instance, Layout, Node
from mesh.local.mesh import LocalMesh
from mesh.local.process import ManagedProcess
from mesh.local.settings import LocalSettings, SettingsError

__all__ = ["Instance", "Layout", "LocalMesh", "LocalSettings", "ManagedProcess", "Node", "SettingsError"]
