"""A lease between its two parties: papers, sealed data, logs, receipts."""
