//! From outbox rows to mails and webhooks.
