"""A Ray cluster on this machine, one core a node: prints its address, adds a node for each line on standard input."""

import sys

from ray.cluster_utils import Cluster

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
cluster.add_node(num_cpus=1)
print(cluster.address, flush=True)
for _ in sys.stdin:
    cluster.add_node(num_cpus=1)
    print("added", flush=True)
cluster.shutdown()
