"""What all parties of Suanli agree on: papers, signatures, the lease, the wire."""
