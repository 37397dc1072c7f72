"""RFC 4475: SIP torture test messages."""
