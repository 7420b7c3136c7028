"""Where a follow graph and its clients live: the contract (base) and one package for each technology."""
