//! The PostgreSQL provider: sessions in a table of PostgreSQL.

#[allow(dead_code, unused_imports, reason = "the provider that uses it follows")]
mod settings;
