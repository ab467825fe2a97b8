"""Where patches lie, how they are drawn and read, and how predicted ones are put together again."""
