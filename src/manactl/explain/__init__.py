"""What `manactl explain` knows: tables of topics, and how a text finds its topic. No I/O."""
