"""The server: conversations over WebSockets, all stepped together by one engine."""
