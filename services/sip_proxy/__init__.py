"""SIP Proxy: the one address trunks and phones know; forwards by slot, balances new dialogs, takes REGISTER."""
