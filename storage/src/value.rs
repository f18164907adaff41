//! What goes into a statement and what comes out of a row: a closed set of types that both
//! databases keep without loss.
//!
//! Owns the conversions. Must never convert silently: a number out of range, a text that PostgreSQL
//! would refuse or a column of another type is an error on both databases alike.

use crate::db::DbError;
use pli_api::Time;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments, Column, Row as _, TypeInfo, ValueRef};
use uuid::Uuid;

/// One argument of a statement. `NULL` keeps its type: PostgreSQL needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `BIGINT`.
    I64(Option<i64>),
    /// `UUID` (16 octets on SQLite).
    Uuid(Option<Uuid>),
    /// `TEXT`. A text with a NUL octet is refused when the statement runs, on both databases.
    Text(Option<String>),
    /// `BYTEA`.
    Bytes(Option<Vec<u8>>),
    /// `BOOLEAN`.
    Bool(Option<bool>),
    /// A number that no `BIGINT` can hold: refused when the statement runs.
    TooLarge(u64),
}

/// The arguments of a statement, in the order of `$1`, `$2`, … Made by [`args!`](crate::args).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Args(Vec<Value>);

impl From<Vec<Value>> for Args {
    fn from(values: Vec<Value>) -> Self {
        Self(values)
    }
}

impl Args {
    /// Adds an argument at the end, for statements whose length depends on a list.
    pub fn push(&mut self, value: impl Into<Value>) {
        self.0.push(value.into());
    }

    /// How many there are: the number of the last placeholder.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn for_sqlite(self) -> Result<SqliteArguments, DbError> {
        let mut out = SqliteArguments::default();
        for value in self.0 {
            value.add_to(|v| match v {
                Checked::I64(v) => out.add(v),
                Checked::Uuid(v) => out.add(v),
                Checked::Text(v) => out.add(v),
                Checked::Bytes(v) => out.add(v),
                Checked::Bool(v) => out.add(v),
            })?;
        }
        Ok(out)
    }

    pub(crate) fn for_postgres(self) -> Result<PgArguments, DbError> {
        let mut out = PgArguments::default();
        for value in self.0 {
            value.add_to(|v| match v {
                Checked::I64(v) => out.add(v),
                Checked::Uuid(v) => out.add(v),
                Checked::Text(v) => out.add(v),
                Checked::Bytes(v) => out.add(v),
                Checked::Bool(v) => out.add(v),
            })?;
        }
        Ok(out)
    }
}

/// A value that either database takes.
enum Checked {
    I64(Option<i64>),
    Uuid(Option<Uuid>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
    Bool(Option<bool>),
}

impl Value {
    fn add_to<F>(self, add: F) -> Result<(), DbError>
    where
        F: FnOnce(Checked) -> Result<(), Box<dyn std::error::Error + Send + Sync>>,
    {
        let checked = match self {
            Self::I64(v) => Checked::I64(v),
            Self::Uuid(v) => Checked::Uuid(v),
            Self::Text(Some(text)) if text.contains('\0') => {
                return Err(DbError::other("an argument is a text with a NUL octet"));
            }
            Self::Text(v) => Checked::Text(v),
            Self::Bytes(v) => Checked::Bytes(v),
            Self::Bool(v) => Checked::Bool(v),
            Self::TooLarge(_) => return Err(DbError::other("an argument is over the range of BIGINT")),
        };
        add(checked).map_err(|e| DbError::other(format!("an argument could not be encoded: {e}")))
    }
}

macro_rules! from {
    ($($from:ty => $variant:ident, |$v:ident| $into:expr;)*) => {$(
        impl From<$from> for Value {
            fn from($v: $from) -> Self { Self::$variant(Some($into)) }
        }
        impl From<Option<$from>> for Value {
            fn from(v: Option<$from>) -> Self { Self::$variant(v.map(|$v| $into)) }
        }
    )*};
}

from! {
    i64 => I64, |v| v;
    i32 => I64, |v| i64::from(v);
    u32 => I64, |v| i64::from(v);
    u16 => I64, |v| i64::from(v);
    Time => I64, |v| v.micros();
    Uuid => Uuid, |v| v;
    bool => Bool, |v| v;
    &str => Text, |v| v.to_owned();
    &String => Text, |v| v.clone();
    String => Text, |v| v;
    &[u8] => Bytes, |v| v.to_vec();
    &Vec<u8> => Bytes, |v| v.clone();
    Vec<u8> => Bytes, |v| v;
}

impl<const N: usize> From<[u8; N]> for Value {
    fn from(v: [u8; N]) -> Self {
        Self::Bytes(Some(v.to_vec()))
    }
}

impl<const N: usize> From<&[u8; N]> for Value {
    fn from(v: &[u8; N]) -> Self {
        Self::Bytes(Some(v.to_vec()))
    }
}

impl<const N: usize> From<Option<[u8; N]>> for Value {
    fn from(v: Option<[u8; N]>) -> Self {
        Self::Bytes(v.map(|v| v.to_vec()))
    }
}

impl From<u64> for Value {
    fn from(v: u64) -> Self {
        i64::try_from(v).map_or(Self::TooLarge(v), |v| Self::I64(Some(v)))
    }
}

impl From<Option<u64>> for Value {
    fn from(v: Option<u64>) -> Self {
        v.map_or(Self::I64(None), Self::from)
    }
}

/// Makes the [`Args`] of a statement: `args![id, "draft", Some(now), None::<i64>]`.
#[macro_export]
macro_rules! args {
    ($($value:expr),* $(,)?) => {
        $crate::Args::from(::std::vec![$($crate::Value::from($value)),*])
    };
}

/// A row of an answer.
pub struct Row(pub(crate) RowOf);

pub(crate) enum RowOf {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl std::fmt::Debug for Row {
    /// Column names only: values are nobody's business in a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = match &self.0 {
            RowOf::Sqlite(row) => row.columns().iter().map(|c| c.name()).collect(),
            RowOf::Postgres(row) => row.columns().iter().map(|c| c.name()).collect(),
        };
        f.debug_tuple("Row").field(&names).finish()
    }
}

impl Row {
    /// The value of a column, by its name in the answer.
    ///
    /// # Errors
    /// [`DbError::Other`] when there is no such column, when it holds another type, and when it is
    /// `NULL` but `T` is not an `Option`.
    pub fn get<T: FromRow>(&self, column: &str) -> Result<T, DbError> {
        T::from_row(self, column)
    }
}

/// What [`Row::get`] can give.
pub trait FromRow: Sized {
    /// Reads the column.
    ///
    /// # Errors
    /// As [`Row::get`].
    fn from_row(row: &Row, column: &str) -> Result<Self, DbError>;
}

fn refused(column: &str, why: impl std::fmt::Display) -> DbError {
    DbError::other(format!("column {column}: {why}"))
}

macro_rules! from_row {
    ($($ty:ty: $read:expr;)*) => {$(
        impl FromRow for Option<$ty> {
            fn from_row(row: &Row, column: &str) -> Result<Self, DbError> {
                let read: fn(&Row, &str) -> Result<Self, DbError> = $read;
                read(row, column)
            }
        }
        impl FromRow for $ty {
            fn from_row(row: &Row, column: &str) -> Result<Self, DbError> {
                Option::<$ty>::from_row(row, column)?.ok_or_else(|| refused(column, "NULL"))
            }
        }
    )*};
}

/// The columns whose driver types are the same on both sides.
macro_rules! plain {
    ($row:expr, $column:expr) => {
        match &$row.0 {
            RowOf::Sqlite(row) => row.try_get($column),
            RowOf::Postgres(row) => row.try_get($column),
        }
        .map_err(|e| refused($column, e))
    };
}

fn i64_of(row: &Row, column: &str) -> Result<Option<i64>, DbError> {
    match &row.0 {
        RowOf::Sqlite(row) => row.try_get(column),
        // A literal or a count of PostgreSQL may be narrower than BIGINT.
        RowOf::Postgres(row) => row
            .try_get_raw(column)
            .map(|raw| raw.type_info().name().to_owned())
            .and_then(|name| match name.as_str() {
                "INT4" => row.try_get::<Option<i32>, _>(column).map(|v| v.map(i64::from)),
                "INT2" => row.try_get::<Option<i16>, _>(column).map(|v| v.map(i64::from)),
                _ => row.try_get(column),
            }),
    }
    .map_err(|e| refused(column, e))
}

from_row! {
    i64: i64_of;
    u64: |row, column| i64_of(row, column)?.map(u64::try_from).transpose().map_err(|e| refused(column, e));
    u32: |row, column| i64_of(row, column)?.map(u32::try_from).transpose().map_err(|e| refused(column, e));
    Time: |row, column| Ok(i64_of(row, column)?.map(Time::from_micros));
    Uuid: |row, column| plain!(row, column);
    String: |row, column| plain!(row, column);
    Vec<u8>: |row, column| plain!(row, column);
    bool: |row, column| plain!(row, column);
}

impl<const N: usize> FromRow for Option<[u8; N]> {
    fn from_row(row: &Row, column: &str) -> Result<Self, DbError> {
        Option::<Vec<u8>>::from_row(row, column)?
            .map(|bytes| {
                <[u8; N]>::try_from(bytes).map_err(|b| refused(column, format_args!("{} octets", b.len())))
            })
            .transpose()
    }
}

impl<const N: usize> FromRow for [u8; N] {
    fn from_row(row: &Row, column: &str) -> Result<Self, DbError> {
        Option::<[u8; N]>::from_row(row, column)?.ok_or_else(|| refused(column, "NULL"))
    }
}

/// Typed identifiers travel as the UUID they are.
macro_rules! ids {
    ($($id:ident)*) => {$(
        impl From<pli_api::$id> for Value {
            fn from(id: pli_api::$id) -> Self { Self::Uuid(Some(id.0)) }
        }
        impl From<Option<pli_api::$id>> for Value {
            fn from(id: Option<pli_api::$id>) -> Self { Self::Uuid(id.map(|id| id.0)) }
        }
        impl FromRow for Option<pli_api::$id> {
            fn from_row(row: &Row, column: &str) -> Result<Self, DbError> {
                Ok(Option::<Uuid>::from_row(row, column)?.map(pli_api::$id))
            }
        }
        impl FromRow for pli_api::$id {
            fn from_row(row: &Row, column: &str) -> Result<Self, DbError> {
                Uuid::from_row(row, column).map(pli_api::$id)
            }
        }
    )*};
}

ids! { OrganisationId AccountId TokenId DepositId DocumentId UploadId EventId JobId }
