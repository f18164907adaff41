//! The command line: what can be asked of `pli`, in words.
//!
//! Owns names, arguments and help. Must never do anything itself.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::{client, config::Size};

const EXIT_CODES: &str = "\
Codes de retour :
  0  fait
  1  échec
  2  ligne de commande refusée
  3  configuration refusée
  4  base de données, magasin ou service hors d'atteinte : réessayez
  5  « check », « recover », « journal verify », « receipt verify » ou « experts import » : quelque chose manque,
     est endommagé ou ne tient pas";

/// Pli : passerelle scellée pour les échanges de documents de la justice.
#[derive(Debug, Parser)]
#[command(name = "pli", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    /// Fichier de configuration (TOML). Les variables PLI_SECTION__CLÉ passent avant lui.
    #[arg(long, global = true, env = "PLI_CONFIG", value_name = "FICHIER")]
    pub(crate) config: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Prépare un dossier : configuration commentée, phrase de passe, clé du hub.
    Init(Init),
    /// Sert l'API, et exécute les tâches de fond sauf si la configuration dit non.
    Serve,
    /// Exécute les tâches de fond seulement.
    Worker,
    /// Met à jour le schéma de la base de données.
    Migrate,
    /// La configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Fait une autorité et un certificat de serveur, pour le développement seulement.
    DevPki(DevPki),
    /// Les clés du hub.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Les organisations.
    #[command(subcommand)]
    Org(OrgCommand),
    /// Les comptes.
    #[command(subcommand)]
    User(UserCommand),
    /// Les services et leurs boîtes partagées.
    #[command(subcommand)]
    Service(ServiceCommand),
    /// Les rôles dans une organisation.
    #[command(subcommand)]
    Role(RoleCommand),
    /// Les comptes d'experts, d'après la liste.
    #[command(subcommand)]
    Experts(ExpertsCommand),
    /// Les jetons d'accès.
    #[command(subcommand)]
    Token(TokenCommand),
    /// L'antivirus.
    #[command(subcommand)]
    Antivirus(AntivirusCommand),
    /// Le journal des preuves.
    #[command(subcommand)]
    Journal(JournalCommand),
    /// Les reçus.
    #[command(subcommand)]
    Receipt(ReceiptCommand),
    /// Sauvegarde la base de données et le magasin dans un dossier, pendant que tout tourne.
    Backup(Backup),
    /// Remet une sauvegarde dans une base de données et un magasin vides.
    Restore(Restore),
    /// Les tâches de fond.
    #[command(subcommand)]
    Jobs(JobsCommand),
    /// Chiffres de chaque organisation, en CSV.
    Stats(Stats),
    /// Compare la base de données et le magasin.
    Check(Check),
    /// Relit les documents depuis le magasin et la clé du hub, sans la base de données.
    Recover(Recover),
    Send(client::SendArgs),
    Receive(client::ReceiveArgs),
    List(client::ListArgs),
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// Dossier à préparer ; il ne doit pas contenir de pli.toml.
    pub(crate) folder: PathBuf,
    /// Fait aussi un certificat de développement.
    #[arg(long)]
    pub(crate) dev_pki: bool,
    /// Nom ou adresse du serveur de développement, en plus de localhost. Répétable.
    #[arg(long = "name", value_name = "NOM", requires = "dev_pki")]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Vérifie la configuration et montre ce qu'elle donne, sans les secrets.
    Check {
        /// Essaie aussi la base de données et le magasin.
        #[arg(long)]
        reach: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct DevPki {
    /// Dossier où écrire ; aucun fichier n'est remplacé.
    pub(crate) folder: PathBuf,
    /// Nom ou adresse du serveur, en plus de localhost, 127.0.0.1 et ::1. Répétable.
    #[arg(long = "name", value_name = "NOM")]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Fait la première clé du hub.
    Init {
        /// Nom porté par le certificat.
        #[arg(long, default_value = "Pli")]
        name: String,
    },
    /// Fait une nouvelle clé et ré-enveloppe toutes les clés de documents ; aucun segment n'est touché.
    Rotate {
        /// Nom porté par le nouveau certificat.
        #[arg(long, default_value = "Pli")]
        name: String,
        /// Ne fait pas de nouvelle clé : finit de ré-envelopper pour l'actuelle.
        #[arg(long)]
        finish: bool,
    },
    /// Montre les empreintes, et le certificat public de la clé actuelle.
    Show,
}

#[derive(Debug, Subcommand)]
pub(crate) enum OrgCommand {
    /// Ajoute une organisation ; écrit son identifiant.
    Add {
        name: String,
        /// court, office, company ou administration.
        #[arg(long, default_value = "office", value_name = "GENRE")]
        kind: pli_api::OrganisationKind,
        /// Espace accordé : octets, ou par exemple « 500 GiB ».
        #[arg(long, default_value = "1 TiB", value_name = "TAILLE")]
        quota: Size,
    },
    /// Dit de quelle juridiction relève un cabinet ou un greffe.
    Court {
        /// Identifiant ou nom exact du cabinet ou du greffe.
        office: String,
        /// Identifiant ou nom exact de la juridiction.
        court: String,
    },
    /// Change l'espace accordé à une organisation.
    Quota {
        /// Identifiant ou nom exact de l'organisation.
        organisation: String,
        /// Octets, ou par exemple « 500 GiB ».
        #[arg(value_name = "TAILLE")]
        quota: Size,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ServiceCommand {
    /// Ajoute un service ; écrit son identifiant.
    Add {
        /// Adresse électronique de la boîte partagée.
        address: String,
        /// Nom à montrer.
        #[arg(long)]
        name: String,
        /// Ce qu'il fait.
        #[arg(long, default_value = "", value_name = "FONCTION")]
        function: String,
        /// Identifiant ou nom exact de l'organisation.
        #[arg(long, value_name = "ORGANISATION")]
        org: String,
    },
    /// Fait partager la boîte d'un service à une personne de l'organisation.
    Member {
        /// Adresse du service.
        service: String,
        /// Adresse de la personne.
        person: String,
        /// Met fin au partage.
        #[arg(long)]
        remove: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum RoleCommand {
    /// Donne un rôle à une personne.
    Grant(RoleOf),
    /// Retire un rôle à une personne.
    Revoke(RoleOf),
}

#[derive(Debug, Args)]
pub(crate) struct RoleOf {
    /// Adresse de la personne.
    pub(crate) address: String,
    /// magistrate, registrar, agent, expert, manager ou auditor.
    #[arg(value_name = "RÔLE")]
    pub(crate) role: pli_api::Role,
    /// Identifiant ou nom exact de l'organisation.
    #[arg(long, value_name = "ORGANISATION")]
    pub(crate) org: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ExpertsCommand {
    /// Lit la liste mensuelle des experts (CSV) et montre ce qu'elle changerait.
    Import(ExpertsImport),
}

#[derive(Debug, Args)]
pub(crate) struct ExpertsImport {
    /// La liste : UTF-8 ou ISO-8859-1, séparée par « ; » ou « , » (docs/experts-import.md).
    #[arg(value_name = "FICHIER")]
    pub(crate) file: PathBuf,
    /// Identifiant ou nom exact de la compagnie d'experts ; inutile s'il n'y en a qu'une.
    #[arg(long, value_name = "ORGANISATION")]
    pub(crate) company: Option<String>,
    /// Fait ce qui est montré ; sans cela, rien n'est changé.
    #[arg(long)]
    pub(crate) apply: bool,
    /// Applique les lignes justes même si d'autres sont fausses.
    #[arg(long)]
    pub(crate) skip_wrong: bool,
    /// Accepte une liste d'où plus de la moitié des experts ont disparu.
    #[arg(long)]
    pub(crate) many_leave: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// Dossier de la sauvegarde : nouveau, ou celui d'une sauvegarde précédente, qui est mise à jour.
    pub(crate) folder: PathBuf,
    /// Sauvegarde aussi les clés du hub, scellées par leur phrase de passe, qui n'y est jamais.
    #[arg(long)]
    pub(crate) with_keys: bool,
    /// Ne sauvegarde rien : relit la sauvegarde et compare chaque empreinte.
    #[arg(long, conflicts_with = "with_keys")]
    pub(crate) verify: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// Dossier de la sauvegarde.
    pub(crate) folder: PathBuf,
    /// Remet aussi les clés du hub, si la sauvegarde les a et que le dossier des clés n'en a pas.
    #[arg(long)]
    pub(crate) with_keys: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum JobsCommand {
    /// Montre les tâches : identifiant, genre, état, échéance, essais, dernière erreur.
    List {
        /// waiting, leased ou dead ; sans lui, toutes.
        #[arg(long, value_name = "ÉTAT", value_parser = ["waiting", "leased", "dead"])]
        state: Option<String>,
        /// De ce genre seulement.
        #[arg(long, value_name = "GENRE")]
        kind: Option<String>,
    },
    /// Remet en route une tâche morte, ou toutes.
    Retry {
        /// Identifiant de la tâche.
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        job: Option<pli_api::JobId>,
        /// Toutes les tâches mortes.
        #[arg(long)]
        all: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Stats {
    /// Sur combien de jours, jusqu'à maintenant.
    #[arg(long, default_value_t = 30, value_name = "JOURS", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub(crate) days: u32,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AntivirusCommand {
    /// Éprouve clamd : fichier d'essai EICAR, limites, chiffrement.
    Check,
    /// Fait analyser de nouveau ce qui n'a pas pu l'être ; écrit combien de documents.
    Rescan {
        /// Pourquoi ils ne l'ont pas été : engine_down, too_large, encrypted ou disabled. Répétable.
        #[arg(long, value_name = "RAISON", default_value = "engine_down")]
        reason: Vec<pli_api::NotAnalysed>,
    },
    /// Dit si les gens d'une organisation peuvent recevoir ce qui n'a pas pu être analysé.
    Policy {
        /// Identifiant ou nom exact de l'organisation.
        organisation: String,
        /// Oui : remet aussi ce qui attendait.
        #[arg(long, value_name = "true|false", action = clap::ArgAction::Set)]
        takes_unanalysed: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Ajoute un compte ; écrit son identifiant.
    Add {
        /// Adresse électronique.
        address: String,
        /// Nom à montrer.
        #[arg(long)]
        name: String,
        /// Identifiant ou nom exact de l'organisation.
        #[arg(long, value_name = "ORGANISATION")]
        org: String,
        /// Fichier du mot de passe ; « - » pour l'entrée standard. Sans lui : pas d'accès par mot de passe.
        #[arg(long, value_name = "FICHIER")]
        password_file: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Fait un jeton pour un compte ; l'écrit sur la sortie standard, cette fois seulement.
    Add {
        /// Adresse du compte.
        address: String,
        /// À quoi il sert.
        #[arg(long, default_value = "ligne de commande")]
        name: String,
        /// Durée, en jours.
        #[arg(long, default_value_t = 90, value_name = "JOURS")]
        days: u32,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum JournalCommand {
    /// Relit tous les événements et les compare à tout ce qui a été signé ; nomme le premier qui ne va pas.
    Verify {
        /// Point de contrôle gardé ailleurs. Répétable.
        #[arg(long = "witness", value_name = "FICHIER")]
        witnesses: Vec<PathBuf>,
    },
    /// Écrit le journal pour un tiers : événements, points de contrôle, clé publique, marche à suivre.
    Export {
        /// Dossier à faire.
        folder: PathBuf,
    },
    /// Écrit le dernier point de contrôle signé, à garder ailleurs.
    Checkpoint,
    /// Écrit la clé publique du journal.
    Key,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ReceiptCommand {
    /// Vérifie un reçu, PDF ou JSON, sans le hub.
    Verify(ReceiptVerify),
}

#[derive(Debug, Args)]
pub(crate) struct ReceiptVerify {
    /// Le reçu.
    pub(crate) file: PathBuf,
    /// Certificats (PEM) du cachet ou de son autorité. Sans eux et sans clé du journal, ceux de la configuration.
    #[arg(long, value_name = "FICHIER")]
    pub(crate) certificate: Option<PathBuf>,
    /// Certificats (PEM) de l'autorité d'horodatage.
    #[arg(long, value_name = "FICHIER")]
    pub(crate) timestamp_certificate: Option<PathBuf>,
    /// Clé publique du journal, telle que « pli journal key » l'écrit. Sans elle, celle que le cachet couvre.
    #[arg(long, value_name = "FICHIER")]
    pub(crate) journal_key: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Ouvre aussi chaque segment et compare chaque empreinte.
    #[arg(long)]
    pub(crate) deep: bool,
    /// Supprime les objets sans maître qui ont plus de tant de jours, un au moins.
    #[arg(long, value_name = "JOURS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) remove_orphans: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct Recover {
    /// Document à relire ; sans lui, montre ceux qui peuvent l'être. Répétable.
    #[arg(value_name = "DOCUMENT", conflicts_with = "all")]
    pub(crate) documents: Vec<String>,
    /// Relit tous les documents.
    #[arg(long)]
    pub(crate) all: bool,
    /// Dossier où écrire, en clair.
    #[arg(long, value_name = "DOSSIER", required_if_eq("all", "true"))]
    pub(crate) to: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
        let cli = Cli::try_parse_from(["pli", "serve", "--config", "a.toml"]).unwrap();
        assert_eq!(cli.config, Some(PathBuf::from("a.toml")));
        Cli::try_parse_from(["pli", "recover", "--all"]).unwrap_err();
        Cli::try_parse_from(["pli", "init", "d", "--name", "a"]).unwrap_err();
        Cli::try_parse_from(["pli", "role", "grant", "a@b.example", "manager", "--org", "A"]).unwrap();
        Cli::try_parse_from(["pli", "role", "grant", "a@b.example", "roi", "--org", "A"]).unwrap_err();
        Cli::try_parse_from(["pli", "service", "member", "s@b.example", "a@b.example", "--remove"]).unwrap();
        Cli::try_parse_from(["pli", "experts", "import", "liste.csv", "--apply", "--skip-wrong"]).unwrap();
    }
}
