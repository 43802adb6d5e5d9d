"""The crypter contract and the envelope framing that ciphers share."""
