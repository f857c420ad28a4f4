//! The PostgreSQL provider: sessions in a table of PostgreSQL.

mod settings;
