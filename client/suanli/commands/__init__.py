"""The commands of `suanli`, a file for each family; imported only when one is called."""
