-- What a visit leaves to the next one, so that it asks the server for less.

-- As JSON; NULL: nothing. Read by a visit alone, so that who shows all states loads none.
ALTER TABLE account_state ADD COLUMN recollection TEXT;
