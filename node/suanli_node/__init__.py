"""The provider node: inventory, offers, sandboxed runs on Ray, metering, receipts."""
