-- An archive that has not changed since it was looked through is not looked through again.

-- What its folders were like then (docs/adr/0016); empty: nothing tells.
ALTER TABLE account_state ADD COLUMN stamp TEXT NOT NULL DEFAULT '';
