//! The form of an existing table, as the server describes it.

use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use super::connection::PostgresLease;
use super::error::{PostgresError, RelationFix};
use super::name::quoted;
use super::value::SqlValue;

/// A table's columns and indexes, as the server lists them.
#[derive(Clone, Debug, Default)]
pub(super) struct RelationForm {
    /// The kind of relation: `r` is a plain table.
    pub(super) kind: String,
    /// `p` for a permanent table, `u` for an unlogged and `t` for a temporary one.
    pub(super) persistence: String,
    /// True if a policy hides rows from this user.
    pub(super) filtered: bool,
    /// The rights that this user lacks.
    pub(super) lacks: Vec<String>,
    pub(super) triggers: i64,
    pub(super) rules: i64,
    pub(super) columns: Vec<RelationColumn>,
    pub(super) keys: Vec<RelationKey>,
}

#[derive(Clone, Debug)]
pub(super) struct RelationColumn {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) not_null: bool,
    /// True if every INSERT must give the column a value.
    pub(super) demanded: bool,
    /// The collation; empty if the type has none.
    pub(super) collation: String,
}

#[derive(Clone, Debug)]
pub(super) struct RelationKey {
    pub(super) name: String,
    pub(super) primary: bool,
    pub(super) unique: bool,
    /// True if the index is complete: valid, checked at once, and on all rows.
    pub(super) whole: bool,
    /// The expressions of the index in its order; the name for a plain column.
    pub(super) columns: Vec<String>,
}

const RELATION: &str = "SELECT c.relkind::text, c.relpersistence::text, pg_catalog.row_security_active(c.oid), \
     ARRAY(SELECT wanted FROM pg_catalog.unnest(ARRAY['SELECT','INSERT','UPDATE','DELETE']) AS wanted \
     WHERE NOT pg_catalog.has_table_privilege(c.oid, wanted)), \
     (SELECT pg_catalog.count(*) FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal), \
     (SELECT pg_catalog.count(*) FROM pg_catalog.pg_rewrite r WHERE r.ev_class = c.oid) \
     FROM pg_catalog.pg_class c WHERE c.oid = pg_catalog.to_regclass($1)::pg_catalog.oid";

const COLUMNS: &str = "SELECT a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull, \
     a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AND a.attgenerated = '', COALESCE(l.collname::text, '') \
     FROM pg_catalog.pg_attribute a LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation \
     WHERE a.attrelid = pg_catalog.to_regclass($1)::pg_catalog.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";

const KEYS: &str = "SELECT c.relname::text, i.indisprimary, i.indisunique, \
     i.indisvalid AND i.indimmediate AND i.indpred IS NULL, \
     ARRAY(SELECT pg_catalog.pg_get_indexdef(i.indexrelid, place, true) FROM pg_catalog.generate_series(1, i.indnkeyatts) AS place) \
     FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid \
     WHERE i.indrelid = pg_catalog.to_regclass($1)::pg_catalog.oid ORDER BY i.indisprimary DESC, c.relname";

impl RelationForm {
    /// Reads the form of the table with this quoted name; `None` if it is missing.
    pub(super) async fn of(
        connection: &mut PostgresLease<'_>,
        table: &str,
    ) -> Result<Option<RelationForm>, PostgresError> {
        let named = [SqlValue::Text(table)];
        let rows = connection.query(RELATION, &named).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let mut form = RelationForm {
            kind: read(row, 0)?,
            persistence: read(row, 1)?,
            filtered: read(row, 2)?,
            lacks: read(row, 3)?,
            triggers: read(row, 4)?,
            rules: read(row, 5)?,
            ..RelationForm::default()
        };
        for row in connection.query(COLUMNS, &named).await? {
            let (name, kind, collation) = (read(&row, 0)?, read(&row, 1)?, read(&row, 4)?);
            let (not_null, demanded) = (read(&row, 2)?, read(&row, 3)?);
            form.columns.push(RelationColumn { name, kind, not_null, demanded, collation });
        }
        for row in connection.query(KEYS, &named).await? {
            let (name, columns) = (read(&row, 0)?, read(&row, 4)?);
            let (primary, unique, whole) = (read(&row, 1)?, read(&row, 2)?, read(&row, 3)?);
            form.keys.push(RelationKey { name, primary, unique, whole, columns });
        }
        Ok(Some(form))
    }

    /// Returns true if a crash of the server empties the table.
    pub(super) fn is_unlogged(&self) -> bool {
        self.persistence == "u"
    }

    pub(super) fn column(&self, name: &str) -> Option<&RelationColumn> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Returns true if a unique index consists of `columns`.
    fn is_unique(&self, columns: &[&str]) -> bool {
        self.keys.iter().any(|key| key.unique && key.whole && key.columns == columns)
    }

    /// Returns true if an index begins with `column`.
    pub(super) fn has_key(&self, column: &str) -> bool {
        self.keys.iter().any(|key| key.whole && key.columns.first().is_some_and(|first| first == column))
    }
}

fn read<'a, T: FromSql<'a>>(row: &'a Row, place: usize) -> Result<T, PostgresError> {
    row.try_get(place).map_err(|_| PostgresError::Row { column: "description" })
}

/// The faults of a table, each with the statement that fixes it, if one does.
#[derive(Debug)]
pub(super) struct RelationFaults<'a> {
    /// The quoted name of the table.
    table: &'a str,
    faults: Vec<(String, Option<String>)>,
}

impl<'a> RelationFaults<'a> {
    pub(super) fn of(table: &'a str) -> Self {
        RelationFaults { table, faults: Vec::new() }
    }

    /// Adds a fault that `ALTER TABLE table by` fixes.
    pub(super) fn alterable(&mut self, found: impl Into<String>, by: impl AsRef<str>) {
        let statement = format!("ALTER TABLE {} {}", self.table, by.as_ref());
        self.fixable(found, statement);
    }

    /// Adds a fault that `statement` fixes.
    pub(super) fn fixable(&mut self, found: impl Into<String>, statement: impl Into<String>) {
        self.faults.push((found.into(), Some(statement.into())));
    }

    /// Adds a fault that no statement fixes.
    pub(super) fn fatal(&mut self, found: impl Into<String>) {
        self.faults.push((found.into(), None));
    }

    /// Checks the kind of relation: a plain table whose rows this user sees.
    pub(super) fn check_kind(&mut self, form: &RelationForm) {
        let kind = match (&*form.kind, &*form.persistence) {
            (_, "t") => Some("a temporary table"),
            ("r", _) => None,
            ("p", _) => Some("a partitioned table"),
            ("v" | "m", _) => Some("a view"),
            ("f", _) => Some("a foreign table"),
            _ => Some("another relation"),
        };
        if let Some(kind) = kind {
            self.fatal(kind);
        }
        if form.rules > 0 && form.kind == "r" {
            self.fatal("a table with rules, which may replace this provider's statements");
        }
        if form.filtered {
            self.alterable(
                "row-level security, which hides rows from this user",
                "DISABLE ROW LEVEL SECURITY",
            );
        }
    }

    /// Adds a fault for each further column that needs a value in every INSERT. This provider gives it none.
    pub(super) fn check_demanded(&mut self, form: &RelationForm, ours: &[&str]) {
        for column in form.columns.iter().filter(|column| column.demanded && !ours.contains(&&*column.name)) {
            let found = format!("the column {} that is NOT NULL and has no default", column.name);
            self.alterable(found, format!("ALTER COLUMN {} DROP NOT NULL", quoted(&column.name)));
        }
    }

    /// Adds a fault if no unique index consists of `id`. Without one, two rows could be the same.
    pub(super) fn check_unique(&mut self, form: &RelationForm, id: &[&str]) {
        if !form.is_unique(id) {
            let stays = form.keys.iter().any(|key| key.primary);
            let (kind, id) = (if stays { "UNIQUE" } else { "PRIMARY KEY" }, id.join(", "));
            self.alterable(format!("no primary key on {id}"), format!("ADD {kind} ({id})"));
        }
    }

    /// Adds a fault for each unique index on columns of `ours` that lacks a column of `id`. It would refuse rows that differ only there.
    pub(super) fn check_not_too_unique(&mut self, form: &RelationForm, id: &[&str], ours: &[&str]) {
        let harmless = |key: &&RelationKey| {
            !key.columns.iter().all(|column| ours.contains(&&**column))
                || id.iter().all(|name| key.columns.iter().any(|column| column == name))
        };
        for key in form.keys.iter().filter(|key| key.unique && !harmless(key)) {
            let found = format!("the unique index {} on {}", key.name, key.columns.join(", "));
            // An index of a constraint goes with it.
            self.alterable(found, format!("DROP CONSTRAINT {}", quoted(&key.name)));
        }
    }

    pub(super) fn answer(self, expected: &'static str) -> Result<(), PostgresError> {
        if self.faults.is_empty() {
            return Ok(());
        }
        let found = self.faults.iter().map(|(found, _)| &**found).collect::<Vec<_>>().join(", ");
        let statements: Option<Vec<_>> = self.faults.iter().map(|(_, by)| by.as_deref()).collect();
        let fix = RelationFix(statements.map(|all| all.join("; ")));
        Err(PostgresError::Foreign { table: self.table.to_owned(), expected, found, fix })
    }
}
